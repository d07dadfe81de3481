"""The command that puts a model on a hub."""

from __future__ import annotations

from typing import Annotated

import typer

from regard.commands.shared import RunFolder, print_table, silence


def push(
    run: RunFolder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="on the hub: OWNER/NAME, or NAME alone")],
    private: Annotated[bool, typer.Option("--private", help="visible to its owner alone")] = False,
    token: Annotated[
        str | None, typer.Option("--token", envvar="HF_TOKEN", help="of the hub; that of 'hf auth login' if left out")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="upload nothing; say what would be")] = False,
) -> None:
    """Put a run's model and its card on a model hub."""
    silence()
    from regard.finetuning.push import push as run_it

    done = run_it(run, name, private=private, token=token, dry_run=dry_run)
    kind = "private" if done.private else "public"
    title = (
        f"Uploaded to {done.url} ({kind})" if done.url else f"Nothing was uploaded; to '{done.name}' ({kind}) would go"
    )
    print_table(title, ["file", "bytes"], [[file, f"{size:,}"] for file, size in done.files.items()])
