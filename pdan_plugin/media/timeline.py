"""Times that continue where those of a file jump."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from pdan_plugin.media.pyav import exact

if TYPE_CHECKING:
    from av.packet import Packet

_BACK = Fraction(1, 10)  # seconds; the limits are those of FFmpeg's own programs
_BACK_UNSORTED = Fraction(1)  # times of display go back and forth, and guessed times of decoding (Matroska)
_FORWARD = Fraction(10)
_NEAR = Fraction(1)


@dataclass(frozen=True)
class Jump:
    """A place where the times of a file jump.

    Attributes:
        time: The place, in seconds of continuous time.
        step: By how much the file's times jump there, in seconds; negative for a jump back.
    """

    time: Fraction
    step: Fraction


@dataclass
class _Part:
    """A part of the file without a jump; ``shift`` is added to its times, ``end`` is in the file's times."""

    shift: Fraction
    end: Fraction | None = None


@dataclass
class _Position:
    """The part in which a stream is, and the times of its last packet as the file has them."""

    part: _Part
    decoded: Fraction | None = None
    end: Fraction | None = None


@dataclass
class Timeline:
    """Shifts the times of packets, so that a file with jumps plays like one without, as in players.

    Two recordings joined into one file jump back; a transport stream of a pause or a new clock jumps either way. What
    follows the jump continues at the latest end so far, of picture and sound. One shift is for all streams, so that
    they stay in sync; the packets that a stream still has from before the jump keep the old one.

    Attributes:
        may_jump: Whether a long step forward is a jump; in files with an index it is a long frame or a silence.
        jumps: The jumps so far.
    """

    may_jump: bool
    jumps: list[Jump] = field(default_factory=list)
    _parts: list[_Part] = field(default_factory=lambda: [_Part(Fraction(0))])
    _positions: dict[int, _Position] = field(default_factory=dict)
    _latest: Fraction | None = None

    def continue_times(self, packet: Packet) -> bool:
        """Shifts the times of the next packet in the file, of any stream; returns whether its stream has jumped."""
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None:
            return False
        base = exact(packet.time_base)
        decoded, shown = time * base, (time if packet.pts is None else packet.pts) * base
        end = shown + (packet.duration or 0) * base
        has_jumped = False
        if packet.stream.type == 'subtitle':
            part = self._part_of_subtitle(shown)
        else:
            position = self._positions.setdefault(packet.stream.index, _Position(self._parts[-1]))
            before = position.part
            if not packet.is_discard:  # these prepare what an edit list shows; their times go back
                self._follow(position, decoded, shown, is_sorted=self.may_jump and packet.dts is not None)
                self._reach(position, decoded, end)
            part = position.part
            has_jumped = part is not before
        ticks = round(part.shift / base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
        return has_jumped

    def _reach(self, position: _Position, decoded: Fraction, end: Fraction) -> None:
        part = position.part
        position.decoded, position.end = decoded, end
        part.end = end if part.end is None else max(part.end, end)
        self._latest = end + part.shift if self._latest is None else max(self._latest, end + part.shift)

    def _follow(self, position: _Position, decoded: Fraction, shown: Fraction, *, is_sorted: bool) -> None:
        """Moves a stream into the newest part, or a new one, if its packet does not continue the stream's own."""
        newest = self._parts[-1]
        back = _BACK if is_sorted else _BACK_UNSORTED
        if position.part is not newest:
            assert position.decoded is not None
            assert position.end is not None
            if position.decoded - back <= decoded <= position.end + _NEAR:
                return
            position.part, position.decoded = newest, None
        expected = newest.end
        is_back = position.decoded is not None and decoded < position.decoded - back
        if expected is None or self._latest is None:
            return
        is_far = self.may_jump and decoded > expected + _FORWARD
        is_of_other_clock = self.may_jump and position.decoded is None and decoded < expected - _FORWARD
        if is_back or is_far or is_of_other_clock:
            self.jumps.append(Jump(self._latest, shown - expected))
            position.part = _Part(self._latest - shown)
            self._parts.append(position.part)

    def _part_of_subtitle(self, shown: Fraction) -> _Part:
        """The newest part that has come to this time: subtitles are sparse, and may be read late."""
        reached = (part for part in reversed(self._parts) if part.end is None or shown <= part.end + _FORWARD)
        return next(reached, self._parts[-1])
