"""What is there of everything that some command can use."""

from __future__ import annotations

from dataclasses import dataclass

from flow import packages, tools


@dataclass(frozen=True)
class Found:
    """One line: a program or package, its version or None, what it enables, how to get it."""

    name: str
    version: str | None
    enables: str
    get: str


def doctor() -> list[Found]:
    """Every package and program that some command uses, whether there or not."""
    python = [
        Found(package.name, packages.version(package.name), package.enables, package.get)
        for package in packages.PACKAGES.values()
    ]
    programs = [
        Found(tool.name, _program_version(tool), tool.enables, tool.get) for tool in tools.TOOLS
    ]
    return python + programs


def _program_version(tool: tools.Tool) -> str | None:
    if tools.find(tool) is None:
        return None
    return tools.version(tool) or "unknown version"
