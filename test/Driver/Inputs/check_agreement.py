"""usage: check_agreement.py ORIGINAL.json RESULT.json: what `moec compress` says of a model that lost nothing and of
one that did, next to a random choice."""
import json
import sys

original, result = (json.load(open(path)) for path in sys.argv[1:])
KEYS = {"kl": 0, "overlap": 1, "top1": 1, "layer_cosine": 1}
failed = False


def check(good, what):
    global failed
    failed |= not good
    print("ok" if good else "FAILED", what)


check(all(abs(original[key] - best) < 1e-5 for key, best in KEYS.items()) and original["top1"] == 1,
      "nothing dropped: " + ", ".join(f"{key} {abs(original[key]):.4f}" for key in KEYS))
check(original["pre_logit_rank"] == original["pre_logit_rank_before"] == result["pre_logit_rank_before"] > 1 and
      all(1 < result[key] <= 256 and result[key] != result["pre_logit_rank_before"]
          for key in ("pre_logit_rank", "pre_logit_rank_random")), "rank of pre-logits")
labels = result["labels"].values()
check(all(min(label[key] for label in labels) <= result[key] <= max(label[key] for label in labels)
          for key in ("kl", "overlap", "top1")), "each label's")
cosines = [layer["output_cosine"] for layer in result["layers"]]
check(all(0.5 < cosine < 1 for cosine in cosines) and
      abs(sum(cosines) / len(cosines) - result["layer_cosine"]) < 1e-9, "each layer's cosine")
for key, best in KEYS.items():
    near, random = abs(result[key] - best), abs(result[key + "_random"] - best)
    check(0 < near < random, f"nearer than random: {key} {result[key]:.4f}, random {result[key + '_random']:.4f}")
sys.exit(failed)
