#!/usr/bin/env python3
"""Writes include/moec/Dialect/Onnx/OnnxOps.td from the schemas of the onnx Python package.

One ONNX operator of the default domain, in its newest version up to OPSET, becomes one op:
operands and results in the order of the schema (an absent optional one is of type `none`),
attributes under their ONNX names, graph attributes as regions. Operators whose inputs or outputs
are only optionals or strings are left out: the importer refuses such models.

Run it from the repository's root after a change of OPSET or of the onnx package:
    .venv/bin/python utils/gen_onnx_dialect.py
"""
import pathlib
import re
import textwrap

import onnx
from onnx import defs
from onnx.defs import OpSchema

OPSET = 28
TARGET = pathlib.Path(__file__).parent.parent / "include/moec/Dialect/Onnx/OnnxOps.td"
IMPURE = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
          "Multinomial", "Bernoulli"}
# Not importable: values of these operators are not tensors of numbers or sequences of them.
# SequenceMap the importer writes out as a Loop.
LEFT_OUT = {"ImageDecoder", "Optional", "OptionalGetElement", "OptionalHasElement",
            "RegexFullMatch", "SequenceMap", "StringConcat", "StringNormalizer", "StringSplit",
            "TfIdfVectorizer"}
REGION_ORDER = {"If": ["then_branch", "else_branch"]}
# A constant has one form here; the importer turns the others into it.
ONLY_ATTRIBUTES = {"Constant": ["value"]}
REQUIRED = {("Constant", "value")}
TYPES = {"INT": "I64Attr", "FLOAT": "F32Attr", "STRING": "StrAttr", "INTS": "DenseI64ArrayAttr",
         "FLOATS": "DenseF32ArrayAttr", "STRINGS": "StrArrayAttr", "TENSOR": "ElementsAttr",
         "TYPE_PROTO": "TypeAttr"}
# Accessor names that every C++ op class already has.
TAKEN = {"Operand", "Operands", "Result", "Results", "Operation", "Type", "Name", "Attr",
         "Attrs", "Loc", "Properties", "Region", "Regions", "Context", "Block"}


def schemas():
    latest = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain or schema.since_version > OPSET:
            continue
        old = latest.get(schema.name)
        if old is None or old.since_version < schema.since_version:
            latest[schema.name] = schema
    return [latest[name] for name in sorted(latest)
            if not latest[name].deprecated and name not in LEFT_OUT]


def camel(name):
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


class Names:
    """Makes the ODS names of one op's operands, results and attributes distinct accessors."""

    def __init__(self):
        self.used = set(TAKEN)

    def reserve(self, name):
        if camel(name) in self.used:
            raise SystemExit(f"attribute name {name} is taken; extend the script")
        self.used.add(camel(name))

    def pick(self, name, suffix):
        name = re.sub(r"\W", "_", name)
        while camel(name) in self.used:
            name += suffix
        self.used.add(camel(name))
        return name


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def paragraph(doc):
    """The first paragraph of a schema's documentation, as one line-wrapped block."""
    text = textwrap.dedent(doc or "").strip().split("\n\n")[0]
    text = re.sub(r"<[^>]+>", "", text).replace("}]", "} ]")
    return " ".join(text.split())


def cpp_float(value):
    text = repr(float(f"{value:.9g}"))
    return (text if any(c in text for c in ".en") else text + ".0") + "f"


def attribute(op, attr):
    """The ODS constraint of one attribute, with the ONNX default where there is one."""
    kind = attr.type.name
    if kind not in TYPES:
        raise SystemExit(f"{op}.{attr.name}: attributes of kind {kind} are not handled")
    base = TYPES[kind]
    if attr.required or (op, attr.name) in REQUIRED:
        return base
    if not attr.default_value.name:
        return f"OptionalAttr<{base}>"
    value = onnx.helper.get_attribute_value(attr.default_value)
    if kind == "INT":
        return f'DefaultValuedAttr<{base}, "{value}">'
    if kind == "FLOAT":
        return f'DefaultValuedAttr<{base}, "{cpp_float(value)}">'
    if kind == "STRING":
        return f'DefaultValuedStrAttr<{base}, {quote(value.decode())}>'
    if kind == "INTS":
        return f'DefaultValuedAttr<{base}, "{{{", ".join(map(str, value))}}}">'
    if kind == "FLOATS":
        return f'DefaultValuedAttr<{base}, "{{{", ".join(map(cpp_float, value))}}}">'
    if kind == "STRINGS":
        items = ", ".join(quote(item.decode()) for item in value)
        text = quote("{" + items + "}")
        return f"DefaultValuedAttr<{base}, {text}>"
    raise SystemExit(f"{op}.{attr.name}: default of kind {kind} is not handled")


def formal(parameter):
    sequences = [t.startswith("seq(") for t in parameter.types]
    if all(sequences):
        return "Onnx_Sequence"
    if any(sequences):
        single = parameter.option == OpSchema.FormalParameterOption.Single
        return "Onnx_Value" if single else "Variadic<Onnx_Value>"
    if parameter.option == OpSchema.FormalParameterOption.Single:
        return "AnyTensor"
    if parameter.option == OpSchema.FormalParameterOption.Optional:
        return "Onnx_OptionalTensor"
    return "Variadic<Onnx_OptionalTensor>"


def traits(schema, has_regions):
    result = []
    if has_regions:
        result.append("RecursiveMemoryEffects")
    elif schema.name not in IMPURE:
        result.append("Pure")
    if schema.name == "Constant":
        result.append("ConstantLike")
    return ", ".join(result)


def definition(schema):
    name = schema.name
    only = ONLY_ATTRIBUTES.get(name)
    attributes = [schema.attributes[key] for key in sorted(schema.attributes)
                  if only is None or key in only]
    graphs = [a.name for a in attributes if a.type.name == "GRAPH"]
    graphs = REGION_ORDER.get(name, graphs)
    attributes = [a for a in attributes if a.type.name != "GRAPH"]
    names = Names()
    for attr in attributes:
        names.reserve(attr.name)
    for graph in graphs:
        names.reserve(graph)
    arguments = [f"{formal(p)}:${names.pick(p.name, '_in')}" for p in schema.inputs]
    arguments += [f"{attribute(name, a)}:${a.name}" for a in attributes]
    results = [f"{formal(p)}:${names.pick(p.name, '_out')}" for p in schema.outputs]
    lines = [f'def Onnx_{name}Op : Onnx_Op<"{name}", [{traits(schema, bool(graphs))}]> {{']
    doc = paragraph(schema.doc) or f"The ONNX operator {name}."
    summary = re.split(r"(?<=\.)\s", doc)[0]
    summary = summary if len(summary) <= 100 else f"ONNX {name}"
    lines.append(f"  let summary = {quote(summary.rstrip('.'))};")
    lines.append("  let description = [{")
    lines += textwrap.wrap(doc, 96, initial_indent="    ", subsequent_indent="    ")
    lines.append("")
    lines.append(f"    Since version {schema.since_version}; "
                 f"https://onnx.ai/onnx/operators/onnx__{name}.html")
    lines.append("  }];")
    separator = ",\n                       "
    lines.append(f"  let arguments = (ins {separator.join(arguments)});")
    lines.append(f"  let results = (outs {separator.join(results)});")
    if graphs:
        regions = ", ".join(f"AnyRegion:${g}" for g in graphs)
        lines.append(f"  let regions = (region {regions});")
        lines.append(f"  let numRegions = {len(graphs)};")
    if name == "Constant":
        lines.append("  let hasFolder = 1;")
        lines.append("  let hasVerifier = 1;")
    if graphs:
        lines.append("  let hasVerifier = 1;")
    lines.append("}")
    return "\n".join(lines).replace("(ins )", "(ins)").replace("(outs )", "(outs)")


def main():
    ops = schemas()
    header = (f"// Generated by utils/gen_onnx_dialect.py from onnx {onnx.__version__}: the operators\n"
              f"// of ai.onnx opset {OPSET}. Do not edit.\n\n"
              "#ifndef MOEC_DIALECT_ONNX_ONNXOPS_TD\n#define MOEC_DIALECT_ONNX_ONNXOPS_TD\n\n"
              'include "moec/Dialect/Onnx/OnnxDialect.td"\n\n')
    TARGET.write_text(header + "\n\n".join(map(definition, ops)) + "\n\n#endif\n")
    print(f"{TARGET.name}: {len(ops)} ops")


if __name__ == "__main__":
    main()
