"""Topic patterns: ``plant/{site}/{device}/telemetry``, where ``{name}`` captures one level."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ANY = "+"
_REST = "#"


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """A pattern of topics.

    Attributes:
        text: As configured.
        levels: Its levels; a captured one stands as ``+``.
        names: Name of the capture of each level, empty where none.

    Example:
        >>> pattern = TopicPattern.parse("plant/{site}/{device}/telemetry")
        >>> pattern.filter, pattern.match("plant/north/pump-1/telemetry")
        ('plant/+/+/telemetry', {'site': 'north', 'device': 'pump-1'})
    """

    text: str
    levels: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> TopicPattern:
        """Return the pattern that a text means.

        Raises:
            ValueError: It is no pattern; the message says why.
        """
        if not text or text.startswith("$"):
            raise ValueError("a topic pattern is not empty and does not begin with '$'")
        levels, names = [], []
        parts = text.split("/")
        for place, part in enumerate(parts):
            match = _CAPTURE.fullmatch(part)
            if match:
                if match[1] in names:
                    raise ValueError(f"{{{match[1]}}} stands twice in it")
                levels.append(_ANY)
                names.append(match[1])
                continue
            if part == _REST and place != len(parts) - 1:
                raise ValueError("'#' may only be the last level")
            if part not in {_ANY, _REST} and re.search(r"[{}+#\x00]", part):
                raise ValueError(
                    f"level {part!r} mixes text with '{{', '}}', '+' or '#': a capture is a level of its own"
                )
            levels.append(part)
            names.append("")
        return cls(text, tuple(levels), tuple(names))

    @property
    def filter(self) -> str:
        """Return the MQTT topic filter to subscribe with."""
        return "/".join(self.levels)

    @property
    def captures(self) -> tuple[str, ...]:
        """Return the names that it captures."""
        return tuple(name for name in self.names if name)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return what a topic's levels are called, or None where it does not match."""
        parts = topic.split("/")
        open_end = self.levels[-1] == _REST
        fixed = len(self.levels) - open_end
        if len(parts) < fixed or (len(parts) > fixed and not open_end):
            return None
        if topic.startswith("$") and self.levels[0] in {_ANY, _REST}:
            return None  # MQTT 5, section 4.7.2
        found = {}
        for part, level, name in zip(parts, self.levels[:fixed], self.names[:fixed], strict=False):
            if level not in {_ANY, part}:
                return None
            if name:
                found[name] = part
        return found

    def overlaps(self, other: TopicPattern) -> bool:
        """Return whether some topic would match both.

        Example:
            >>> a, b = TopicPattern.parse("a/{device}"), TopicPattern.parse("{site}/b")
            >>> a.overlaps(b), a.overlaps(TopicPattern.parse("b/{device}"))
            (True, False)
        """
        for mine, theirs in zip(self.levels, other.levels, strict=False):
            if _REST in {mine, theirs}:
                return True
            if _ANY not in {mine, theirs} and mine != theirs:
                return False
        shorter, longer = sorted((self.levels, other.levels), key=len)
        return len(shorter) == len(longer) or longer[len(shorter) :] == (_REST,) or shorter[-1] == _REST
