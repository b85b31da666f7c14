"""Training progress for people: one bar a phase on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from flow.qat.result import Phase, Progress

LINE_SECONDS = 5.0  # between lines where there is no terminal


class Bar:
    """Shows epochs, loss, accuracy and time left on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars: dict[Phase, TaskID] = {}
        self._last = 0.0
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._rich.start()

    def show(self, progress: Progress) -> None:
        """One more epoch is over."""
        share = progress.accuracy
        rated = f"{progress.validation_loss:.4f}" if share is None else f"{100 * share:.1f} %"
        figures = (
            f"loss {progress.loss:.4f}  validation {rated}  {progress.seconds_left:.0f} s left"
        )
        name = f"training {progress.phase.value}"
        if not self._console.is_terminal:
            self._line(f"{name} epoch {progress.epoch}/{progress.epochs}  {figures}", progress)
            return
        if progress.phase not in self._bars:
            self._bars[progress.phase] = self._rich.add_task(
                name, total=progress.epochs, figures=""
            )
        self._rich.update(self._bars[progress.phase], completed=progress.epoch, figures=figures)

    def close(self) -> None:
        self._rich.stop()

    def _line(self, text: str, progress: Progress) -> None:
        now = time.monotonic()
        if progress.epoch == progress.epochs or now - self._last >= LINE_SECONDS:
            self._last = now
            print(text, file=sys.stderr)
