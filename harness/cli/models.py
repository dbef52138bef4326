"""``harness models``: the installed models and their configuration keys."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson

app = typer.Typer(help="Models: list and show those that are installed.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the installed models."""
    from harness import plugins

    rows = [{"name": n, "package": package} for n, package in plugins.names(plugins.MODEL_ENTRY_POINTS).items()]
    for row in rows:
        row["summary"] = plugins.model(row["name"]).summary
    if as_json:
        print(json.dumps({"models": rows}))
        return
    _print(["model", "package", "what it is"], [[r["name"], r["package"], r["summary"]] for r in rows])


@app.command("show")
def show_model(name: Annotated[str, typer.Argument(help="Name of a model.")], as_json: AsJson = False) -> None:
    """Show a model: released variants with their published AP, and its configuration keys.

    The keys are for --set and YAML.
    """
    from harness import plugins
    from harness.plugin_code import convert_plugin_errors

    plugin = plugins.model(name)
    with convert_plugin_errors(f"model {name}", "cannot be described"):
        schema: dict[str, Any] = plugin.Config.model_json_schema()
        card: dict[str, Any] = getattr(plugin, "card", {})
    keys = schema.get("properties", {})
    if as_json:
        head = {"name": name, "version": plugin.version, "summary": plugin.summary}
        print(json.dumps({**head, "card": card, "config": keys}))
        return
    print(f"{name} (version {plugin.version}): {plugin.summary}")
    _print_facts({key: value for key, value in card.items() if key != "variants"})
    if card.get("variants"):
        _print_variants(card["variants"])
    rows = [[k, json.dumps(v.get("default")), v.get("description", "")] for k, v in keys.items()]
    _print(["key", "default", "meaning"], rows)


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """One line per fact, long ones folded; facts about one thing are indented below it."""
    from harness.reports.terminal import folded, terminal_width

    for key, value in facts.items():
        label = f"{indent}{key.replace('_', ' ')}:"
        if isinstance(value, dict):
            print(label)
            _print_facts(value, indent + "  ")
        elif isinstance(value, list):
            print("\n".join([label, *(f"{indent}  {item}" for item in value)]))
        else:
            print(folded(f"{label} {value:.4f}" if isinstance(value, float) else f"{label} {value}", terminal_width()))


def _print_variants(variants: list[dict[str, Any]]) -> None:
    """One column per variant, one row per fact and per dataset's published AP."""
    facts = [k for k in variants[0] if k != "published_ap"]
    rows = [[k.replace("_", " "), *(_fact(v[k]) for v in variants)] for k in facts]
    rows += [[f"AP {d}", *(f"{v['published_ap'][d]}" for v in variants)] for d in variants[0]["published_ap"]]
    _print(["variant", *(str(i) for i in range(1, len(variants) + 1))], rows)


def _fact(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
