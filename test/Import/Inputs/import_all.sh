#!/bin/bash
# usage: import_all.sh FOLDER    imports FOLDER/*/model.onnx; fails when one fails, or when a value
# has no rank
status=0
for model in "$1"/*/model.onnx; do
  text=$(moe-opt "$model" 2>&1) || { echo "$model: $text" | head -5; status=1; continue; }
  if grep -q 'tensor<\*x' <<<"$text"; then
    echo "$model: values without rank"
    status=1
  fi
done
exit $status
