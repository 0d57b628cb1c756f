"""Concatenate copies of a data set's samples, with users and items of their own.

    python -m dien_fuxictr.dataset.copy_samples data/amazon_beauty_last --copies 8 --out data/amazon_beauty_last_copies

What can be learned of an item does not depend on the number of copies, and neither does the best AUC. Comparing the
scores of training settings on one copy and on many tells whether they carry over to larger data. Copies share
categories and other properties.
"""

import sys
from pathlib import Path

import polars as pl

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.common.outputs import require_output

from .samples.build_samples import published
from .samples.samples import Samples, samples_in, save_info

NAMED = ("user_id", "item_id", "item_history", "neg_item_history")
"""Columns whose ids are another's in each copy."""


def copy_samples(samples: Samples, copies: int, seed: int = 2019) -> Samples:
    """Return samples that consist of several copies.

    Args:
        samples: samples of any build.
        copies: number of copies.
        seed: seed of the order of the rows.

    Returns:
        Samples whose ids end with the number of the copy, from 0.
    """
    height = samples.behaviours.height

    def side_by_side(table: pl.DataFrame) -> pl.DataFrame:
        places = [name for name in ("history_start", "behaviour") if name in table.columns]
        named = [pl.col(name) for name in NAMED if name in table.columns]
        return pl.concat(
            table.with_columns(
                *(pl.when(ids != "").then(ids + f"_{copy}").otherwise(ids) for ids in named),
                *(pl.col(name) + copy * height for name in places),
            )
            for copy in range(copies)
        )

    splits = {
        name: side_by_side(rows).sample(fraction=1, shuffle=True, seed=seed) for name, rows in samples.splits.items()
    }
    left_out = None if samples.left_out is None else side_by_side(samples.left_out)
    info = {"options": samples.info["options"], "copies": copies}
    return Samples(side_by_side(samples.behaviours), splits, info, left_out)


def main(arguments: list[str] | None = None) -> int:
    """Write the folder of samples.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code, see `run_command`.
    """
    parser = command_parser("python -m dien_fuxictr.dataset.copy_samples", __doc__)
    parser.add_argument("folder", type=Path, help="folder of a built data set, or of samples")
    parser.add_argument("--copies", type=int, default=8, metavar="N", help="number of copies; default %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder; its samples/ is written")
    options = parser.parse_args(arguments)
    if options.copies < 1:
        parser.error(f"--copies = {options.copies} must be 1 or more")
    return run_command(lambda: _run(options.folder, options.copies, options.out / "samples"), "interrupted")


def _run(folder: Path, copies: int, out: Path) -> int:
    samples = Samples.load(samples_in(folder))
    if "options" not in samples.info:
        raise UserError(f"{folder} was not written by a build: samples.json is missing")
    if out.exists():
        raise UserError(f"{out} already exists; name a new folder")
    require_output("--out", out.parent)
    with published(out) as new:
        made = copy_samples(samples, copies)
        made.save(new)
        save_info(made.info, new)
    print(f"Wrote {out}: {', '.join(f'{rows.height:,} {name}' for name, rows in made.splits.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
