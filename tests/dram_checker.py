"""An independent look at a stream of DRAM commands: the rules of JEDEC's standards, pair by pair, from the parameters.

Nothing here is shared with the model but the names of commands. For each command of the log, all earlier ones within
reach are looked at, and the earliest tick at which it could have come is told.
"""

from collections import defaultdict

RD, WR, ACT, PRE, PREAB, REFAB, REFPB = range(7)
NAMES = ("RD", "WR", "ACT", "PRE", "PREab", "REFab", "REFpb")
AND_PRECHARGE = -2
COLUMNS, ROWS = (RD, WR), (ACT, PRE, PREAB, REFAB, REFPB)


class Checker:
    """p: parameters as the device has them."""

    def __init__(self, p):
        self.p = p
        self.mult = p.ticks_per_cycle
        self.groups = p.bank_groups
        self.ranks = p.ranks * p.stack_ids
        self.open, self.earlier = {}, defaultdict(list)
        self.activations = defaultdict(list)
        in_unit = self.groups * p.banks_per_group * p.stack_ids
        self.turns = in_unit // p.banks_per_refresh
        self.reach = self.mult * (max(p.nRFC, p.nRC, p.nFAW, (p.nRFCpb or 0)) + p.nCL + p.nCWL + p.nWR + 50)

    def place(self, gb):
        """channel, pseudo-channel, rank or stack id, group, bank: each with what is above it; what is refreshed."""
        p = self.p
        group = gb // p.banks_per_group
        rank = group // self.groups
        pseudo = rank // self.ranks
        channel = pseudo // p.pseudo_channels
        unit = ("pc", pseudo) if p.stack_ids > 1 else ("rank", rank)
        turn = (unit, gb % self.turns)
        above = {"channel": channel, "pseudo": pseudo, "rank": rank, "group": group}
        return {**above, "bank": gb, "unit": unit, "turn": turn}

    def length(self, command):
        p = self.p
        cycles = {RD: p.column_cycles, WR: p.column_cycles, ACT: p.activate_cycles, PRE: p.precharge_cycles}
        return int(cycles.get(command, p.precharge_cycles if command == PREAB else p.refresh_cycles) * self.mult)

    def apart(self, cycles, first, then):
        """Ticks between the starts of two commands whose ends must be so many cycles apart."""
        tail = lambda c: 0 if c == ACT and self.p.split_activate else self.length(c) - 1  # noqa: E731
        return int(cycles * self.mult) + tail(first) - tail(then)

    def nominal(self, first, a, then, b, closes):
        """Every rule for this pair, in cycles."""
        p = self.p
        same = {key: a[key] == b[key] for key in a}
        ccd_wr = (p.nCCDS if p.nCCDS_WR is None else p.nCCDS_WR, p.nCCDL if p.nCCDL_WR is None else p.nCCDL_WR)
        written = p.nCWL + p.nBL
        touches = (same["bank"] and then == ACT) or (same["turn"] and then == REFPB)  # a bank that must be closed
        if first == ACT:
            if then == ACT:
                yield same["bank"], p.nRC
                yield same["group"], p.nRRDL
                yield same["unit"], p.nRRDS
            yield same["bank"] and then == RD, p.nRCDRD
            yield same["bank"] and then == WR, p.nRCDWR
            yield (same["bank"] and then == PRE) or (same["unit"] and then == PREAB), p.nRAS
            yield (same["unit"] and then == REFAB) or (same["turn"] and then == REFPB), p.nRC
            yield same["unit"] and then == REFPB, p.nRRDS
        if first == RD:
            if then == RD:
                yield same["group"], p.nCCDL
                yield same["rank"], p.nCCDS
                if same["pseudo"] and not same["rank"]:
                    yield True, (p.nCCDR or p.nCCDS) if p.stack_ids > 1 else p.nBL + p.nCS
                yield same["pseudo"], p.nBL
            yield same["unit"] and then == WR, p.nRTW
            yield (same["bank"] and then == PRE) or (same["unit"] and then == PREAB), p.nRTP
            if closes:
                yield touches or (same["unit"] and then == REFAB), p.nRTP + p.nRP
        if first == WR:
            if then == WR:
                yield same["group"], ccd_wr[1]
                yield same["rank"], ccd_wr[0]
                yield same["pseudo"], p.nBL
            if then == RD:
                yield same["group"], written + p.nWTRL
                yield same["unit"], written + p.nWTRS
            yield (same["bank"] and then == PRE) or (same["unit"] and then == PREAB), written + p.nWR
            if closes:
                yield touches or (same["unit"] and then == REFAB), written + p.nWR + p.nRP
        if first in (PRE, PREAB):
            recovery = p.nRP if first == PRE or p.nRPab is None else p.nRPab
            yield touches or (first == PREAB and same["unit"] and then in (ACT, REFPB)), recovery
            yield same["unit"] and then == REFAB, p.nRP
            yield same["unit"] and then in (PRE, PREAB), p.nPPD
        if first == REFAB:
            yield same["unit"] and then in (ACT, PREAB, REFAB), p.nRFC
        if first == REFPB:
            yield same["turn"] and then in (ACT, REFPB), p.nRFCpb
            yield same["unit"] and then == ACT, p.nRREFD
            yield same["unit"] and then == REFPB, p.nRREFD if p.nPBR2PBR is None else p.nPBR2PBR

    def on_one_bus(self, first, then):
        return not self.p.separate_buses or (first in COLUMNS) == (then in COLUMNS)

    def earliest(self, command, gb):
        """The first tick at which this command would break no rule, after all those seen so far."""
        here, earliest = self.place(gb), 0
        for tick, first, other, row in reversed(self.earlier[here["channel"]]):
            if tick < self.earlier[here["channel"]][-1][0] - self.reach:
                break
            if self.on_one_bus(first, command):
                earliest = max(earliest, tick + self.length(first))
            for holds, cycles in self.nominal(first, self.place(other), command, here, row == AND_PRECHARGE):
                if holds and cycles:
                    earliest = max(earliest, tick + self.apart(cycles, first, command))
        recent = self.activations[here["unit"]]
        if command == ACT and len(recent) >= 4:
            earliest = max(earliest, recent[-4] + self.apart(self.p.nFAW, ACT, ACT))
        if self.mult == 2 and command not in (PRE, PREAB):
            earliest |= 1
        return earliest

    def see(self, tick, command, gb, row):
        """Take in one command: the earliest tick it could have had. Raises AssertionError where it breaks a rule."""
        here = self.place(gb)
        earliest = self.earliest(command, gb)
        assert tick >= earliest, f"{NAMES[command]} of bank {gb} at {tick}, not before {earliest}"
        mates = [other for other in self.open if self.place(other)["unit"] == here["unit"]]
        if command in COLUMNS:
            assert gb in self.open, f"{NAMES[command]} at {tick} of bank {gb}, which is closed"
            if row == AND_PRECHARGE:
                del self.open[gb]
        elif command == ACT:
            assert gb not in self.open, f"ACT at {tick} of bank {gb}, which is open"
            self.open[gb] = row
            self.activations[here["unit"]].append(tick)
        elif command == PREAB:
            for other in mates:
                del self.open[other]
        elif command == PRE:
            assert gb in self.open
            del self.open[gb]
        else:
            together = [other for other in mates if self.place(other)["turn"] == here["turn"]]
            assert not (mates if command == REFAB else together), f"{NAMES[command]} at {tick} with open rows"
        self.earlier[here["channel"]].append((tick, command, gb, row))
        return earliest

    def see_all(self, log):
        """Each command of a log, channel by channel as it is; the earliest ticks of all."""
        return [self.see(*map(int, entry)) for entry in sorted(log.tolist(), key=lambda e: (e[0], e[1] not in COLUMNS))]
