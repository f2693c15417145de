"""The children of one supervisor, in start order."""

from __future__ import annotations

from itertools import count

from terraphim_rlm.core.errors import ChildError, NotSupported
from terraphim_rlm.supervision.reports import Counts, Slot
from terraphim_rlm.supervision.spec import ChildSpec, Flags, check_specs


class Slots:
    """Finding a child by its id costs the same however many there are; so does forgetting one.

    Raises:
        InvalidArgument: a spec cannot be, or two have one id.
    """

    def __init__(self, specs: tuple[ChildSpec, ...], flags: Flags) -> None:
        check_specs(specs, flags)
        self._flags = flags
        self._is_dynamic = flags.strategy == "simple_one_for_one"
        self._specs = specs
        self._numbers = count(1)
        self._slots: dict[str, Slot] = (
            {} if self._is_dynamic else {spec.id: Slot(spec.id, spec) for spec in specs}
        )

    @property
    def pattern(self) -> ChildSpec:
        """The one spec of `simple_one_for_one`."""
        return self._specs[0]

    def all(self) -> list[Slot]:
        return list(self._slots.values())

    def __contains__(self, slot: Slot) -> bool:
        return self._slots.get(slot.id) is slot

    def get(self, id: str) -> Slot:
        """Raises ChildError: there is none."""
        found = self._slots.get(id)
        if found is None:
            raise ChildError(f"There is no child {str(id)[:80]!r}.", state="unknown", id=str(id)[:80])
        return found

    def down(self, id: str) -> Slot:
        """One that does not run.

        Raises:
            ChildError: there is none, or it is `running` or `restarting`.
            NotSupported: the supervisor is a `simple_one_for_one`.
        """
        if self._is_dynamic:
            raise NotSupported(
                "Children of a simple_one_for_one are not kept when they end.", fix="Start another one."
            )
        slot = self.get(id)
        if slot.state != "down":
            raise ChildError(f"The child {id} is {slot.state}.", state=slot.state, id=id)
        return slot

    def add(self, spec: ChildSpec) -> Slot:
        """Raises:
        ChildError: its id is known; `state` says how that one stands.
        """
        known = self._slots.get(spec.id)
        if known is not None:
            raise ChildError(
                f"There is a child {spec.id!r}; it is {known.state}.", state=known.state, id=spec.id
            )
        slot = self._slots[spec.id] = Slot(spec.id, spec)
        return slot

    def add_dynamic(self, arguments: tuple[object, ...]) -> Slot:
        name = f"{self.pattern.id}-{next(self._numbers)}"
        slot = self._slots[name] = Slot(name, self.pattern, arguments)
        return slot

    def remove(self, slot: Slot) -> None:
        """Forgets spec and arguments, too."""
        self._slots.pop(slot.id, None)

    def affected(self, slot: Slot) -> list[Slot]:
        """Those that are ended and started again when `slot` is, itself among them, in start order."""
        if self._flags.strategy == "one_for_all":
            return self.all()
        if self._flags.strategy == "rest_for_one":
            everything = self.all()
            return everything[everything.index(slot) :]
        return [slot]

    def any_significant_alive(self) -> bool:
        return any(slot.spec.significant and slot.state != "down" for slot in self._slots.values())

    def counts(self) -> Counts:
        slots = self._slots.values()
        supervisors = sum(slot.spec.type == "supervisor" for slot in slots)
        return Counts(
            specs=1 if self._is_dynamic else len(slots),
            active=sum(slot.child is not None for slot in slots),
            supervisors=supervisors,
            workers=len(slots) - supervisors,
        )
