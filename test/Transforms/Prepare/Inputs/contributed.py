"""Contributed operators against ONNX Runtime: one node a model, random numbers.

usage: contributed.py <folder> [--seed=N] [--no-reference] [names ...]

Writes each model with the outputs that ONNX Runtime's CPU kernels give, and lets `moec verify`
compare. A name that ends with * stands for all that begin so. Exit code 1 when a model fails.
"""
import argparse
import fnmatch
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MS = "com.microsoft"


class Case:
    """One node: inputs are arrays of the run, `constants` initializers."""

    def __init__(self, op, seed, semantics=None, tolerance=None):
        self.op, self.semantics, self.tolerance = op, semantics, tolerance
        self.random = np.random.default_rng(seed)
        self.names, self.feeds, self.constants, self.attributes = [], {}, [], {}
        self.outputs, self.dims = ["y"], {}
        self.kind, self.kinds = TensorProto.FLOAT, {}  # of the results
        self.want = None  # results of operators without a kernel

    def normal(self, *shape, scale=1.0):
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def add(self, name, value, constant=False, dims=None):
        """An operand; a dimension named in `dims` is dynamic."""
        self.names.append(name if value is not None else "")
        if value is None:
            return
        if constant:
            self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        else:
            self.feeds[name] = np.array(value, order="C")
            self.dims[name] = dims or list(value.shape)

    def skip(self, count):
        self.names += [""] * count

    def model(self):
        node = helper.make_node(self.op, self.names, self.outputs, name=self.op, domain=MS, **self.attributes)
        inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), self.dims[n])
                  for n, v in self.feeds.items()]
        outputs = [helper.make_tensor_value_info(n, self.kinds.get(n, self.kind), None)
                   for n in self.outputs if n]
        graph = helper.make_graph([node], self.op, inputs, outputs, self.constants)
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21),
                                                                      helper.make_opsetid(MS, 1)])


def pack(values, bits):
    """Rows of small numbers as bytes, low bits first, padded."""
    per = 8 // bits
    pad = -values.shape[-1] % per
    values = np.concatenate([values, np.zeros(values.shape[:-1] + (pad,), values.dtype)], -1)
    values = values.reshape(values.shape[:-1] + (-1, per)).astype(np.uint8)
    return sum(values[..., i] << (bits * i) for i in range(per)).astype(np.uint8)


def gqa(seed, *, batch=1, length=3, past=4, heads=4, kv=2, size=8, packed=False, rotary=0, interleaved=0, window=-1,
        cap=0.0, sink=False, smooth=-1, bias=False, shared=0, lengths=None, scale=None,
        cache=0):
    c = Case("GroupQueryAttention", seed)
    size = 32 if rotary else size  # the kernel asks for whole vectors
    total = past + length
    lengths = lengths or [total] * batch
    if packed:
        c.add("query", c.normal(batch, length, (heads + 2 * kv) * size), dims=["B", "S", (heads + 2 * kv) * size])
        c.skip(2)
    else:
        c.add("query", c.normal(batch, length, heads * size), dims=["B", "S", heads * size])
        for n in "key", "value":
            c.add(n, c.normal(batch, length, kv * size), dims=["B", "S", kv * size])
    shared = shared or cache
    rows = shared or past
    for n in "past_key", "past_value":
        c.add(n, c.normal(batch, kv, rows, size), dims=["B", kv, shared or "P", size])
    c.add("seqlens_k", np.array(lengths, np.int32) - 1, dims=["B"])
    c.add("total", np.array(total, np.int32))
    if rotary:
        angles = np.arange(32)[:, None] * 0.3 ** np.arange(rotary // 2)[None, :]
        c.add("cos", np.cos(angles).astype(np.float32), constant=True)
        c.add("sin", np.sin(angles).astype(np.float32), constant=True)
        c.attributes.update(do_rotary=1, rotary_interleaved=interleaved)
    else:
        c.skip(2)
    c.skip(1)
    c.add("bias", c.normal(1, heads, length, total) if bias else None, dims=[1, heads, "S", "T"])
    c.add("sink", c.normal(heads) if sink else None, constant=True)
    c.attributes.update(num_heads=heads, kv_num_heads=kv, local_window_size=window, softcap=cap)
    if smooth != -1:
        c.attributes["smooth_softmax"] = smooth
    if scale:
        c.attributes["scale"] = scale
    if cache:
        c.attributes["sliding_window_cache"] = 1
    while not c.names[-1]:
        c.names.pop()
    c.outputs = ["y", "present_key", "present_value"]
    return c


def nbits(seed, *, bits=4, n=12, k=48, block=16, zeros=None, bias=False, leading=(2, 3), level=0, groups=False):
    c = Case("MatMulNBits", seed)
    blocks = -(-k // block)
    c.add("a", c.normal(*leading, k), dims=["B", "S", k][-len(leading) - 1:])
    c.add("b", c.random.integers(0, 256, (n, blocks, block * bits // 8), dtype=np.uint8), constant=True)
    c.add("scales", c.normal(n, blocks) * 0.1, constant=True)
    if zeros == "packed":
        c.add("zeros", pack(c.random.integers(0, 1 << bits, (n, blocks)), bits).reshape(-1), constant=True)
    elif zeros == "float":
        c.add("zeros", c.normal(n, blocks) + (1 << bits - 1), constant=True)
    else:
        c.skip(1)
    c.add("groups", (np.arange(k)[::-1] // block).astype(np.int32) if groups else None, constant=True)
    c.add("bias", c.normal(n) if bias else None, constant=True)
    while not c.names[-1]:
        c.names.pop()
    c.attributes.update(N=n, K=k, bits=bits, block_size=block, accuracy_level=level)
    return c


def qmoe(seed, *, bits=4, block=0, zeros=False, experts=4, hidden=32, inter=32, k=2, act="swiglu", norm=1, weights=None,
         semantics="ort-cpu", tokens=5, ties=False, mixer=0, biases=False, **attributes):
    c = Case("QMoE", seed, semantics)
    first = inter * (2 if act == "swiglu" else 1)
    c.add("x", c.normal(tokens, hidden), dims=["T", hidden])
    logits = c.normal(tokens, experts)
    if ties:
        logits = np.round(logits).clip(-1, 1)
    c.add("router", logits, dims=["T", experts])
    for n, rows, depth in ("fc1", first, hidden), ("fc2", hidden, inter):
        c.add(n, c.random.integers(0, 256, (experts, rows, depth * bits // 8), dtype=np.uint8), constant=True)
        shape = (experts, rows, depth // block) if block else (experts, rows)
        c.add(n + "_scale", c.normal(*shape) * 0.1 * (4 / 2 ** bits), constant=True)
        c.add(n + "_bias", c.normal(experts, rows) if biases else None, constant=True)
    c.skip(3)
    if zeros:
        for n, rows, depth in ("fc1", first, hidden), ("fc2", hidden, inter):
            shape = (experts, rows, depth // block) if block else (experts, rows)
            c.add(n + "_zero", pack(c.random.integers(0, 1 << bits, shape), bits), constant=True)
        c.skip(1)
    elif weights is not None:
        c.skip(3)
    if weights is not None:
        w = np.abs(c.normal(tokens, experts)) if weights == "positive" else c.normal(tokens, experts)
        c.add("router_weights", w, dims=["T", experts])
    while not c.names[-1]:
        c.names.pop()
    c.attributes.update(k=k, activation_type=act, normalize_routing_weights=norm, expert_weight_bits=bits,
                        use_sparse_mixer=mixer, weights_prepacked=0, **attributes)
    if act == "swiglu":
        c.attributes["swiglu_fusion"] = 1
    if block:
        c.attributes["block_size"] = block
    return c


def moe(seed, *, act="silu", k=2, experts=4, tokens=6, ties=False, mixer=0, hidden=16, inter=24, legacy=False):
    c = Case("MoE", seed, "ort-cpu")
    c.add("x", c.normal(tokens, hidden), dims=["T", hidden])
    logits = c.normal(tokens, experts)
    c.add("router", np.round(logits).clip(-1, 1) if ties else logits, dims=["T", experts])
    fc1, fc2 = c.normal(experts, inter, hidden), c.normal(experts, hidden, inter)
    if legacy:
        fc1, fc2 = fc1.reshape(experts, hidden, inter), fc2.reshape(experts, inter, hidden)
    c.add("fc1", fc1, constant=True)
    c.skip(1)
    c.add("fc2", fc2, constant=True)
    c.attributes.update(k=k, activation_type=act, normalize_routing_weights=1, use_sparse_mixer=mixer)
    return c


def linear(seed, *, rule="gated_delta", batch=2, length=5, q=2, heads=4, dk=4, dv=6, past=True, wide=False, keys=None):
    c = Case("LinearAttention", seed)
    keys = keys or heads
    unit = lambda x: (x.reshape(batch, length, -1, dk) / np.linalg.norm(
        x.reshape(batch, length, -1, dk), axis=-1, keepdims=True)).reshape(x.shape).astype(np.float32)
    c.add("query", c.normal(batch, length, q * dk), dims=["B", "T", q * dk])
    c.add("key", unit(c.normal(batch, length, keys * dk)), dims=["B", "T", keys * dk])
    c.add("value", c.normal(batch, length, heads * dv), dims=["B", "T", heads * dv])
    c.add("state", c.normal(batch, heads, dk, dv) if past else None, dims=["B", heads, dk, dv])
    width = heads * dk if wide else heads
    c.add("decay", -np.abs(c.normal(batch, length, width)) if "gated" in rule else None, dims=["B", "T", width])
    c.add("beta", sigmoid(c.normal(batch, length, heads)) if "delta" in rule else None, dims=["B", "T", heads])
    while not c.names[-1]:
        c.names.pop()
    c.attributes.update(q_num_heads=q, kv_num_heads=heads, update_rule=rule)
    c.outputs = ["y", "last"]
    return c


def delta_net(seed, *, gate="none", beta="none", norm=0, wide=False, packed=False):
    tokens, batch, q, heads, dk, dv = 6, 2, 2, 4, 4, 6
    c = Case("GatedDeltaNet", seed)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    if packed:
        c.add("query", c.normal(tokens, 2 * q * dk + heads * dv), dims=["T", 2 * q * dk + heads * dv])
        c.skip(2)
    else:
        c.add("query", unit(c.normal(tokens, q, dk)), dims=["T", q, dk])
        c.add("key", unit(c.normal(tokens, q, dk)), dims=["T", q, dk])
        c.add("value", c.normal(tokens, heads, dv), dims=["T", heads, dv])
    c.skip(1)
    shape = (tokens, heads, dk) if wide else (tokens, heads)
    c.add("decay", -np.abs(c.normal(*shape)), dims=["T", *shape[1:]])
    b = c.normal(tokens, heads)
    c.add("beta", b if beta == "sigmoid" else 1 / (1 + np.exp(-b)), dims=["T", heads])
    c.add("state", c.normal(batch, heads, dv, dk), dims=[batch, heads, dv, dk])
    if gate != "none":
        c.add("a_log", c.normal(heads), constant=True)
        c.add("dt_bias", c.normal(heads), constant=True)
    c.attributes.update(gate_activation=gate, beta_activation=beta, qk_l2_norm=norm)
    c.outputs = ["y", "last"]
    return c


def conv(seed, *, activation="none", past=True, bias=True, dilation=1):
    c = Case("CausalConvWithState", seed)
    c.add("x", c.normal(2, 6, 5), dims=["B", 6, "L"])
    c.add("w", c.normal(6, 1, 4), constant=True)
    c.add("bias", c.normal(6) if bias else None, constant=True)
    c.add("past", c.normal(2, 6, 3 * dilation) if past else None, dims=["B", 6, 3 * dilation])
    while not c.names[-1]:
        c.names.pop()
    c.attributes.update(activation=activation)
    if dilation != 1:
        c.attributes["dilation"] = dilation
    c.outputs = ["y", "state"]
    return c


def simple(seed, op, operands, outputs=("y",), **attributes):
    """Operands: (shape, constant) or None."""
    c = Case(op, seed)
    for i, operand in enumerate(operands):
        if operand is None:
            c.skip(1)
            continue
        shape, constant = operand
        c.add(f"i{i}", c.normal(*shape), constant, dims=["N", *shape[1:]] if not constant else None)
    c.attributes.update(attributes)
    c.outputs = list(outputs)
    return c


def mrotary(seed, layout):
    c = Case("MRotaryEmbedding", seed)
    c.add("x", c.normal(2, 3, 32), dims=["B", "S", 32])
    c.add("positions", c.random.integers(0, 9, (3, 2, 3)), dims=[3, "B", "S"])
    angles = np.arange(16)[:, None] * 0.4 ** np.arange(4)[None, :]
    c.add("cos", np.cos(angles).astype(np.float32), constant=True)
    c.add("sin", np.sin(angles).astype(np.float32), constant=True)
    c.attributes.update(mrope_section=[2, 1, 1], num_heads=2, rotary_embedding_dim=8, mrope_layout=layout)
    return c


def mha(seed, *, bias=False, past=0, padding=False, causal=0):
    c = Case("MultiHeadAttention", seed)
    for n in "query", "key", "value":
        c.add(n, c.normal(2, 3, 16), dims=["B", "S", 16])
    c.add("bias", c.normal(48) if bias else None, constant=True)
    mask = np.ones((2, past + 3), np.int32)
    mask[1, -1] = 0
    c.add("padding", mask if padding else None, dims=["B", "T"])
    c.skip(1)
    for n in "past_key", "past_value":
        c.add(n, c.normal(2, 4, past, 4) if past else None, dims=["B", 4, "P", 4])
    while not c.names[-1]:
        c.names.pop()
    c.attributes.update(num_heads=4, unidirectional=causal)
    c.outputs = ["y", "present_key", "present_value"] if past else ["y"]
    return c


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swiglu(seed, *, whole=False, limit=0.0, beta=0.0):
    """No kernel for the CPU: the formula."""
    c = Case("SwiGLU", seed)
    gate, up = c.normal(3, 8, scale=3), c.normal(3, 8, scale=3)
    if whole:
        c.add("gate", np.concatenate([gate, up], -1), dims=["N", 16])
    else:
        c.add("gate", gate, dims=["N", 8])
        c.add("up", up, dims=["N", 8])
    c.attributes.update(limit=limit, activation_beta=beta, activation_alpha=1.5)
    if limit:
        gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    c.want = [gate * sigmoid(1.5 * gate) * (up + beta)]
    return c


def group_router(seed, *, groups=4, kept=2, k=3, experts=16, scores=False):
    c = Case("MoEGroupRouter", seed)
    z, bias = c.normal(5, experts), c.normal(experts)
    c.add("logits", z, dims=["T", experts])
    c.add("bias", bias, constant=True)
    c.attributes.update(top_k=k, n_group=groups, topk_group=kept)
    s = sigmoid(z)
    if scores:
        c.outputs = ["", "scores", "weights"]
        c.want = [s + bias, s]
        return c
    biased = (s + bias).reshape(5, groups, -1)
    best = np.sort(biased, -1)[:, :, -2:].sum(-1)
    allowed = np.argsort(-best, -1)[:, :kept]
    mask = np.zeros((5, groups, 1), bool)
    np.put_along_axis(mask[:, :, 0], allowed, True, 1)
    ids = np.argsort(-np.where(mask, biased, -np.inf).reshape(5, experts), -1)[:, :k]
    want = np.full((5, experts), -10000, np.float32)
    np.put_along_axis(want, ids, np.log(np.maximum(np.take_along_axis(s, ids, 1), 1e-20)), 1)
    c.want = [want]
    return c


def gather_blocks(seed, *, bits=4, zeros=False):
    c = Case("GatherBlockQuantized", seed)
    c.add("data", c.random.integers(0, 256, (20, 32 * bits // 8), dtype=np.uint8), constant=True)
    c.add("indices", c.random.integers(0, 20, (2, 3)), dims=["B", "S"])
    c.add("scales", c.normal(20, 2), constant=True)
    if zeros:
        c.add("zeros", pack(c.random.integers(0, 1 << bits, (20, 2)), bits), constant=True)
    c.attributes.update(block_size=16, bits=bits, quantize_axis=1, gather_axis=0)
    return c


def integers(seed, op):
    c = Case(op, seed)
    if op == "DynamicQuantizeMatMul":
        c.add("a", c.normal(3, 8), dims=["N", 8])
    else:
        c.add("a", c.random.integers(0, 256, (3, 8), dtype=np.uint8), dims=["N", 8])
    c.add("b", c.random.integers(-128, 128, (8, 6), dtype=np.int8), constant=True)
    if op == "MatMulIntegerToFloat":
        c.add("a_scale", np.array(0.1, np.float32), constant=True)
    c.add("b_scale", np.abs(c.normal(6)) * 0.1, constant=True)
    if op == "MatMulIntegerToFloat":
        c.add("a_zero", np.array(120, np.uint8), constant=True)
    c.add("b_zero", np.zeros(6, np.int8), constant=True)
    c.add("bias", c.normal(6), constant=True)
    return c


def qlinear(seed, op):
    """Whole tensors of uint8."""
    c = Case(op, seed)
    u8 = lambda *shape: c.random.integers(0, 256, shape, dtype=np.uint8)
    scale = lambda name, v: c.add(name, np.array(v, np.float32), constant=True)
    zero = lambda name, v: c.add(name, np.array(v, np.uint8), constant=True)

    def tensor(name, *shape, constant=False):
        c.add(name, u8(*shape), constant, dims=None if constant else ["N", *shape[1:]])
        scale(name + "_scale", 0.02)
        zero(name + "_zero", 120)

    result = lambda: (scale("y_scale", 0.037), zero("y_zero", 100))
    if op == "QLinearConcat":
        result()
    if op == "QLinearWhere":
        c.add("condition", c.random.integers(0, 2, (3, 8)).astype(bool), dims=["N", 8])
    tensor("a", 3, 8)
    if op == "QGemm":
        tensor("b", 8, 6, constant=True)
        c.add("bias", c.random.integers(-5000, 5000, (6,), dtype=np.int32), constant=True)
    elif op in ("QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearWhere"):
        tensor("b", 3, 8)
    if op == "QLinearConcat":
        c.attributes["axis"] = 1
    else:
        result()
    if op == "QLinearSoftmax":
        c.attributes.update(opset=13, axis=-1)
    if op == "QLinearReduceMean":
        c.attributes.update(axes=[1], keepdims=1)
    c.kind = TensorProto.UINT8
    return c


def fused_conv(seed, activation, parameters=None, z=False):
    c = Case("FusedConv", seed)
    c.add("x", c.normal(2, 3, 6, 6), dims=["N", 3, 6, 6])
    c.add("w", c.normal(4, 3, 3, 3), constant=True)
    c.add("b", c.normal(4), constant=True)
    if z:
        c.add("z", c.normal(2, 4, 6, 6), dims=["N", 4, 6, 6])
    c.attributes.update(activation=activation, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    if parameters:
        c.attributes["activation_params"] = parameters
    return c


def bert_attention(seed, *, past=0, mask=None, causal=0):
    c = Case("Attention", seed)
    c.add("x", c.normal(2, 3, 12), dims=["B", "S", 12])
    c.add("w", c.normal(12, 48), constant=True)
    c.add("b", c.normal(48), constant=True)
    shown = np.ones((2, past + 3), np.int32)
    shown[1, -1] = 0
    c.add("mask", None if mask is None else shown if mask == 2 else shown.sum(1).astype(np.int32),
          dims=["B", "T"] if mask == 2 else [2])
    c.add("past", c.normal(2, 2, 4, past, 4) if past else None, dims=[2, "B", 4, "P", 4])
    while not c.names[-1]:
        c.names.pop()
    c.attributes.update(num_heads=4, unidirectional=causal)
    c.outputs = ["y", "present"] if past else ["y"]
    return c


def embedding(seed):
    c = Case("EmbedLayerNormalization", seed)
    ids = lambda: c.random.integers(0, 9, (2, 3)).astype(np.int32)
    c.add("ids", ids(), dims=["B", "S"])
    c.add("segments", ids() % 2, dims=["B", "S"])
    for name, rows in ("words", 9), ("positions", 5), ("kinds", 2):
        c.add(name, c.normal(rows, 8), constant=True)
    c.add("gamma", c.normal(8), constant=True)
    c.add("beta", c.normal(8), constant=True)
    c.outputs, c.kinds = ["y", "index"], {"index": TensorProto.INT32}
    return c


CASES = {
    "attention": lambda s: bert_attention(s, mask=2),
    "attention-past-causal": lambda s: bert_attention(s, past=4, causal=1),
    "embedding": embedding,
    "conv-relu": lambda s: fused_conv(s, "Relu", z=True),
    "conv-clip": lambda s: fused_conv(s, "Clip", [-0.5, 0.5]),
    **{"qlinear-" + op[7:].lower(): lambda s, op=op: qlinear(s, op)
       for op in ("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax",
                  "QLinearConcat", "QLinearWhere")},
    "qgemm": lambda s: qlinear(s, "QGemm"),
    "gqa-prompt": lambda s: gqa(s, past=0, length=5, batch=2),
    "gqa-decode": lambda s: gqa(s, length=1, batch=2),
    "gqa-packed-rotary-sink-window": lambda s: gqa(s, packed=True, rotary=32, sink=True, window=3, scale=0.3),
    "gqa-rotary-part-interleaved": lambda s: gqa(s, rotary=16, interleaved=1, past=0),
    "gqa-window": lambda s: gqa(s, window=2),
    "gqa-cap-bias": lambda s: gqa(s, cap=2.0, bias=True),
    "gqa-smooth": lambda s: gqa(s, smooth=1, past=0, batch=2),
    "gqa-bias": lambda s: gqa(s, bias=True, length=1),
    "gqa-buffer": lambda s: gqa(s, shared=12, length=1, batch=2),
    "gqa-ragged": lambda s: gqa(s, length=1, past=4, batch=2, lengths=[5, 3]),
    "gqa-ragged-prompt-rotary": lambda s: gqa(s, length=1, past=4, batch=2, lengths=[5, 2], rotary=32),
    "gqa-window-cache": lambda s: gqa(s, window=4, cache=4, past=7, length=1, batch=2, lengths=[8, 7]),
    "gqa-window-cache-slack": lambda s: gqa(s, window=3, cache=6, past=9, length=5),
    "gqa-window-cache-prompt": lambda s: gqa(s, window=3, cache=5, past=0, length=8, rotary=32, sink=True),
    "nbits-2": lambda s: nbits(s, bits=2),
    "nbits-4": lambda s: nbits(s, bias=True),
    "nbits-8": lambda s: nbits(s, bits=8),
    "nbits-4-zeros": lambda s: nbits(s, zeros="packed"),
    "nbits-2-zeros": lambda s: nbits(s, bits=2, zeros="packed"),
    "nbits-8-zeros": lambda s: nbits(s, bits=8, zeros="packed"),
    "nbits-4-float-zeros": lambda s: nbits(s, zeros="float"),
    "nbits-4-part": lambda s: nbits(s, k=40, block=32, zeros="packed"),
    "fused-matmul": lambda s: simple(s, "FusedMatMul", [((3, 4, 5), 0), ((6, 5), 1)], transB=1, alpha=0.5),
    "fused-matmul-batch": lambda s: simple(s, "FusedMatMul", [((2, 4, 5), 0), ((4, 5, 3), 1)], transBatchA=1),
    "fused-gemm": lambda s: simple(s, "FusedGemm", [((3, 5), 0), ((5, 6), 1), ((6,), 1)], activation="LeakyRelu",
                                   activation_alpha=0.2),
    "skip-layer-norm": lambda s: simple(s, "SkipLayerNormalization",
                                        [((2, 3, 8), 0), ((2, 3, 8), 0), ((8,), 1), ((8,), 1), ((8,), 1)],
                                        ("y", "", "", "sum")),
    "gated-add": lambda s: simple(s, "GatedAdd", [((3, 8), 0), ((3, 8), 0), ((3, 1), 0)]),
    "gated-rms-norm": lambda s: simple(s, "GatedRMSNorm", [((2, 3, 16), 0), ((8,), 1), ((2, 3, 16), 0)]),
    "bias-gelu": lambda s: simple(s, "BiasGelu", [((3, 8), 0), ((8,), 1)]),
    "fast-gelu": lambda s: simple(s, "FastGelu", [((3, 8), 0)]),
    "mrotary-0": lambda s: mrotary(s, 0),
    "mrotary-1": lambda s: mrotary(s, 1),
    "mha": lambda s: mha(s),
    "mha-bias-causal": lambda s: mha(s, bias=True, causal=1),
    "mha-past": lambda s: mha(s, past=4),
    "mha-padding": lambda s: mha(s, padding=True),
    "conv": lambda s: conv(s),
    "conv-silu": lambda s: conv(s, activation="silu", past=False, bias=False),
    "linear-gated-delta": lambda s: linear(s),
    "linear-shared-keys": lambda s: linear(s, keys=2),
    "linear-shared-states": lambda s: linear(s, q=4, heads=2),
    "linear-delta": lambda s: linear(s, rule="delta", q=4),
    "linear-gated": lambda s: linear(s, rule="gated", wide=True, q=4),
    "linear": lambda s: linear(s, rule="linear", past=False, q=4),
    "linear-gate": lambda s: simple(s, "LinearAttentionGate",
                                    [((2, 3, 4), 0), ((4,), 1), ((4,), 1), ((2, 3, 4), 0)], ("decay", "beta")),
    "delta-net": lambda s: delta_net(s),
    "delta-net-gates": lambda s: delta_net(s, gate="softplus", beta="sigmoid"),
    "delta-net-kda": lambda s: delta_net(s, gate="sigmoid", wide=True, norm=1),
    "delta-net-packed": lambda s: delta_net(s, packed=True, norm=1),
    "swiglu": lambda s: swiglu(s, limit=2.0, beta=1.0),
    "swiglu-whole": lambda s: swiglu(s, whole=True),
    "group-router": lambda s: group_router(s),
    "group-router-one": lambda s: group_router(s, groups=1, kept=1),
    "group-router-scores": lambda s: group_router(s, groups=1, kept=1, scores=True),
    "gather-blocks": lambda s: gather_blocks(s),
    "gather-blocks-8": lambda s: gather_blocks(s, bits=8),
    "gather-blocks-zeros": lambda s: gather_blocks(s, zeros=True),
    "dynamic-matmul": lambda s: integers(s, "DynamicQuantizeMatMul"),
    "integer-matmul": lambda s: integers(s, "MatMulIntegerToFloat"),
    "qmoe-4": lambda s: qmoe(s),
    "qmoe-2-blocks-zeros": lambda s: qmoe(s, bits=2, block=16, zeros=True),
    "qmoe-4-rows-zeros": lambda s: qmoe(s, zeros=True, act="silu"),
    "qmoe-8-rows": lambda s: qmoe(s, bits=8, act="gelu", biases=True),
    "qmoe-ties": lambda s: qmoe(s, ties=True, experts=6),
    "qmoe-not-normalised": lambda s: qmoe(s, norm=0),
    "qmoe-router-weights": lambda s: qmoe(s, norm=0, weights="any"),
    "qmoe-router-weights-normalised": lambda s: qmoe(s, weights="positive"),
    "qmoe-mixer": lambda s: qmoe(s, mixer=1, experts=8),
    "moe-ties": lambda s: moe(s, ties=True, experts=6),
    "moe-mixer": lambda s: moe(s, mixer=1, experts=8),
    "moe-gelu": lambda s: moe(s, act="gelu"),
    "moe-legacy": lambda s: moe(s, legacy=True),
}


def outputs_of(case, model):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, case.feeds)


def declare(model, outputs):
    """The outputs' types and ranks, from a run."""
    for info, value in zip(model.graph.output, outputs):
        info.CopyFrom(helper.make_tensor_value_info(info.name, helper.np_dtype_to_tensor_dtype(value.dtype),
                                                    [None] * value.ndim))


def check(name, case, folder, arguments):
    model = case.model()
    want = [w.astype(np.float32) for w in case.want] if case.want else outputs_of(case, model)
    names = [n for n in case.outputs if n]
    declare(model, want)
    data = folder / name / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / name / "model.onnx")
    for i, (n, v) in enumerate(case.feeds.items()):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(v, n).SerializeToString())
    for i, (n, v) in enumerate(zip(names, want)):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(v, n).SerializeToString())
    command = ["moec", "verify", str(folder / name / "model.onnx"), "--data", str(data), "--no-onnxruntime",
               "--no-locate"]
    if case.semantics:
        command += ["--moe-semantics", case.semantics]
    if arguments.no_reference:
        command.append("--no-reference")
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        print(f"{name}: exit code {run.returncode}\n{run.stdout[-1500:]}{run.stderr[-1500:]}")
    return run.returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-reference", action="store_true")
    arguments = parser.parse_intermixed_args()
    failed, count = [], 0
    for name, make in CASES.items():
        if arguments.names and not any(fnmatch.fnmatch(name, n) for n in arguments.names):
            continue
        count += 1
        try:
            good = check(name, make(arguments.seed), arguments.folder, arguments)
        except Exception as error:  # of ONNX Runtime
            print(f"{name}: {error}")
            good = False
        if not good:
            failed.append(name)
    print(f"{count} operators, seed {arguments.seed}, failed: {' '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
