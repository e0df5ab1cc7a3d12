"""The public interface of a crate, one line an item: `api.py rustdoc.json`.

Reads the JSON that rustdoc writes on nightly. The list in docs/api.txt is compared with it, so that a change of the
interface shows in the change itself. See docs/releasing.md for what each kind of change means for the version.
"""

import json
import sys

crate = json.load(open(sys.argv[1]))
index, lines, seen = crate["index"], set(), set()


def kind_of(item):
    return next(iter(item["inner"]))


def text(value):
    """A type or signature, without the numbers that rustdoc gives anew at each run."""
    if isinstance(value, dict):
        if "primitive" in value:
            return value["primitive"]
        if "generic" in value:
            return value["generic"]
        if "resolved_path" in value:
            path = value["resolved_path"]
            return path.get("path", path.get("name", "?")).split("::")[-1] + text(path.get("args"))
        if "borrowed_ref" in value:
            ref = value["borrowed_ref"]
            return "&" + ("mut " if ref["is_mutable"] else "") + text(ref["type"])
        if "slice" in value:
            return "[" + text(value["slice"]) + "]"
        if "array" in value:
            return "[" + text(value["array"]["type"]) + "; " + value["array"]["len"] + "]"
        if "tuple" in value:
            return "(" + ", ".join(map(text, value["tuple"])) + ")"
        if "angle_bracketed" in value:
            args = [text(arg["type"]) for arg in value["angle_bracketed"]["args"] if "type" in arg]
            return "<" + ", ".join(args) + ">" if args else ""
        if "impl_trait" in value:
            return "impl " + " + ".join(text(bound) for bound in value["impl_trait"])
        if "trait_bound" in value:
            trait = value["trait_bound"]["trait"]
            return trait.get("path", trait.get("name", "?")).split("::")[-1] + text(trait.get("args"))
        if "parenthesized" in value:
            call = value["parenthesized"]
            output = " -> " + text(call["output"]) if call.get("output") else ""
            return "(" + ", ".join(map(text, call["inputs"])) + ")" + output
        if "dyn_trait" in value:
            traits = value["dyn_trait"]["traits"]
            return "dyn " + " + ".join(t["trait"].get("path", "?").split("::")[-1] for t in traits)
        if "qualified_path" in value:
            return value["qualified_path"]["name"]
        return "_"
    return "" if value is None else "_"


def signature(function):
    sig = function["sig"]
    inputs = ", ".join(f"{name}: {text(type_)}" for name, type_ in sig["inputs"])
    output = " -> " + text(sig["output"]) if sig.get("output") else ""
    return f"({inputs}){output}"


def add(path, item):
    kind, attributes = kind_of(item), " ".join(map(str, item.get("attrs", [])))
    closed = " (non-exhaustive)" if "non_exhaustive" in attributes else ""
    inner = item["inner"][kind]
    if kind == "function":
        lines.add(f"fn {path}{signature(inner)}")
    elif kind in ("struct_field", "assoc_const", "constant"):
        type_ = inner if kind == "struct_field" else inner.get("type")
        lines.add(f"{kind.replace('_', ' ')} {path}: {text(type_)}")
    else:
        lines.add(f"{kind} {path}{closed}")
    children = []
    if kind == "struct":
        plain = inner["kind"].get("plain") if isinstance(inner["kind"], dict) else None
        children = plain["fields"] if plain else []
    elif kind == "enum":
        children = inner["variants"]
    elif kind == "trait":
        children = inner["items"]
    elif kind == "variant" and isinstance(inner["kind"], dict) and "struct" in inner["kind"]:
        children = inner["kind"]["struct"]["fields"]
    for child in children:
        child = index.get(str(child))
        if child and (child["visibility"] in ("public", "default")):
            add(f"{path}::{child['name']}", child)
    for implementation in inner.get("impls", []) if isinstance(inner, dict) else []:
        implementation = index.get(str(implementation))
        if not implementation:
            continue
        body = implementation["inner"]["impl"]
        if body["is_synthetic"] or body.get("blanket_impl"):
            continue
        if body["trait"]:
            trait = body["trait"].get("path", body["trait"].get("name", "?"))
            lines.add(f"impl {trait.split('::')[-1]}{text(body['trait'].get('args'))} for {path}")
            continue
        for member in body["items"]:
            member = index.get(str(member))
            if member and member["visibility"] == "public":
                add(f"{path}::{member['name']}", member)


for root_item in index[str(crate["root"])]["inner"]["module"]["items"]:
    item = index.get(str(root_item))
    if item and item["visibility"] == "public":
        if kind_of(item) == "use":
            use = item["inner"]["use"]
            target = index.get(str(use["id"]))
            if target:
                add(use["name"], target)
        else:
            add(item["name"], item)

print("\n".join(sorted(lines)))
