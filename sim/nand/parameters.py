"""What a NAND SSD is made of, with the rules that its numbers have to keep, and the sets that are shipped.

A set is a YAML file under hardware_profiles/flash: every field with a value and where it is from.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

import hardware_profiles
from sim.errors import InputError
from sim.model_parameters import checked
from sim.yaml_document import read_document

SECTOR_BYTES = 512
ALLOCATION_ORDERS = tuple("".join(order) for order in itertools.permutations("CWDP"))
_MOST_PAGES = 2**31 - 2  # the tables hold page numbers in 32 bits, one of them meaning "none"
_OPEN_BLOCKS = 3  # a plane writes data of the host, data moved by garbage collection, and translation pages apart
_LSB_CSB_MSB = {"SLC": ("lsb",), "MLC": ("lsb", "msb"), "TLC": ("lsb", "csb", "msb")}


class NandParameters(BaseModel):
    """One SSD. Times in ns, sizes in bytes, link and DRAM rates in bytes per ns, the flash channel's in MT/s.

    Raises pydantic's ValidationError, or through `make_parameters` an InputError, where a rule is broken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # geometry
    channels: int
    chips_per_channel: int
    dies_per_chip: int
    planes_per_die: int
    blocks_per_plane: int
    pages_per_block: int
    page_bytes: int
    block_bytes: int | None = None  # only to be checked: pages_per_block x page_bytes
    cell: Literal["SLC", "MLC", "TLC"] = "MLC"
    die_interleaving: bool = True  # False: a chip takes no command while one of its dies is busy

    # array times, by which bit of its cells a page is
    read_lsb_ns: float
    read_csb_ns: float | None = None
    read_msb_ns: float | None = None
    program_lsb_ns: float
    program_csb_ns: float | None = None
    program_msb_ns: float | None = None
    erase_ns: float

    # suspension of a running program or erase in favour of reads, of an erase in favour of the host's writes, too
    suspend_program: bool = False
    suspend_erase: bool = False
    suspend_erase_for_writes: bool = False
    suspend_program_ns: float = 100_000.0
    suspend_erase_ns: float = 700_000.0
    least_program_left_ns: float = 100_000.0  # with less than this to go, a read waits
    least_erase_left_ns: float = 700_000.0
    most_suspends: int = 8  # of one operation, so that reads cannot starve it

    # channel: ONFI 3 NV-DDR2 command and address cycles
    channel_rate_mt_s: float
    channel_width_bits: int = 8
    onfi_tcs_ns: float = 20.0
    onfi_twc_ns: float = 25.0
    onfi_twb_ns: float = 100.0
    onfi_trr_ns: float = 20.0
    onfi_tadl_ns: float = 70.0
    onfi_twpst_ns: float = 6.0
    onfi_twpsth_ns: float = 15.0
    onfi_tdbsy_ns: float = 500.0

    # flash translation layer
    over_provisioning: float
    allocation: str = "CWDP"
    mapping_cache_bytes: int | None = None  # None: the whole table is in DRAM
    mapping_entry_bytes: int | None = None  # in the cache; None: as many whole bytes as two page numbers and a bitmap
    translation_entry_bytes: int | None = None  # on flash; None: a page number and a bitmap
    translation_read_bytes: int = SECTOR_BYTES  # transferred to look one entry up
    gc_policy: Literal["greedy", "cost_benefit"] = "greedy"
    gc_threshold: float = 0.05  # share of a plane's blocks: with fewer free, collection starts
    gc_hard_threshold: float = 0.005  # with fewer free, it goes before the host's requests

    # which free block is written next: the one that was erased first; the least worn one; and for data that collection
    # moves the most worn one, the least worn full block being collected where it is too far behind
    wear_levelling: Literal["none", "dynamic", "static"] = "none"
    static_wear_gap: int = 16  # erases between the most and the least worn block of a plane

    # write cache and its DRAM
    write_cache: bool = False
    write_buffer_bytes: int = 1 << 20  # data that may wait in DRAM for its program
    dram_rate: float = 0.2
    dram_latency_ns: float = 26.0
    dram_row_bytes: int = 8192
    dram_row_ns: float = 39.0

    # host interface
    queue_depth: int = 1024
    fetch_limit: int = 512  # commands fetched and not completed
    link_lanes: int = 0  # 0: the link is no part of the device
    link_lane_rate: float = 1.0
    tlp_payload_bytes: int = 128
    tlp_overhead_bytes: int = 28  # header, data link layer and physical layer

    # energy, all of it or none: what a plane draws while it works, what moving data takes, what the drive always takes
    array_v: float | None = None
    read_ma: float | None = None
    program_ma: float | None = None
    erase_ma: float | None = None
    channel_pj_per_bit: float | None = None
    host_pj_per_bit: float | None = None  # controller and link, of data of the host
    static_w: float | None = None

    def model_post_init(self, _context: object) -> None:
        self._check_counts()
        self._check_times()
        self._check_geometry()
        self._check_translation()
        self._check_energy()

    def _check_counts(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} of", value=value, expected="a whole number from 1")
        if self.link_lanes < 0:
            raise InputError("link_lanes of", value=self.link_lanes, expected="a whole number from 0 (no link)")
        if self.channel_width_bits not in (8, 16):
            raise InputError("channel_width_bits of", value=self.channel_width_bits, expected="8 or 16")

    def _check_times(self) -> None:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name.endswith("_ns") and value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} of", value=value, expected="a time from 0 ns")
        for name in ("channel_rate_mt_s", "dram_rate", "link_lane_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} of", value=value, expected="a rate above zero")
        for way in ("read", "program"):
            for bit in _LSB_CSB_MSB[self.cell]:
                if getattr(self, f"{way}_{bit}_ns") is None:
                    raise InputError(
                        f"{self.cell} cells without {way}_{bit}_ns", expected="a time for each of its pages"
                    )

    def _check_geometry(self) -> None:
        if self.page_bytes % SECTOR_BYTES or not 1 <= self.sectors_per_page <= 64:
            problem = "page_bytes of"
            raise InputError(problem, value=self.page_bytes, expected=f"1 to 64 sectors of {SECTOR_BYTES} bytes")
        if self.block_bytes is not None and self.page_bytes > self.block_bytes:
            problem = f"a page of {self.page_bytes} bytes is larger than a block of {self.block_bytes}"
            raise InputError(problem, expected="block_bytes = pages_per_block x page_bytes")
        if self.block_bytes is not None and self.block_bytes != self.pages_per_block * self.page_bytes:
            problem = f"block_bytes of {self.block_bytes} is not pages_per_block {self.pages_per_block} x page_bytes"
            raise InputError(problem, value=self.page_bytes, expected=f"{self.pages_per_block * self.page_bytes}")
        if self.allocation not in ALLOCATION_ORDERS:
            problem = "unknown plane allocation order"
            expected = "an order of C (channel), W (chip), D (die) and P (plane), the first to vary fastest"
            raise InputError(problem, value=self.allocation, expected=expected)
        if self.physical_pages > _MOST_PAGES:
            raise InputError("too many flash pages:", value=self.physical_pages, expected=f"at most {_MOST_PAGES}")

    def _check_translation(self) -> None:
        if not 0 <= self.over_provisioning < 1:
            raise InputError("over_provisioning of", value=self.over_provisioning, expected="a share from 0 to below 1")
        if not 0 <= self.gc_hard_threshold <= self.gc_threshold < 1:
            problem = f"gc_hard_threshold {self.gc_hard_threshold} and gc_threshold {self.gc_threshold}"
            raise InputError(problem, expected="0 <= gc_hard_threshold <= gc_threshold < 1")
        if self.translation_read_bytes > self.page_bytes:
            problem = f"translation_read_bytes {self.translation_read_bytes} is more than a page of {self.page_bytes}"
            raise InputError(problem)
        if self.cached_entries < 1:
            problem = f"mapping_cache_bytes {self.mapping_cache_bytes} holds no entry of {self.cache_entry_bytes} bytes"
            raise InputError(problem)
        spare = self.spare_blocks_per_plane
        least = max(self.gc_threshold_blocks, 2) + 1
        if spare < least:
            problem = (
                f"over_provisioning {self.over_provisioning} leaves {spare} spare blocks of {self.blocks_per_plane} "
                f"in a plane, garbage collection needs {least}"
            )
            raise InputError(problem, expected="more over-provisioning, or a lower gc_threshold")
        if self.suspend_erase_for_writes and not self.suspend_erase:
            raise InputError("suspend_erase_for_writes without suspend_erase", expected="both, or neither")
        if self.write_cache and self.write_buffer_bytes < self.page_bytes:
            problem = f"write_buffer_bytes {self.write_buffer_bytes} is less than a page of {self.page_bytes}"
            raise InputError(problem)

    def _check_energy(self) -> None:
        given = [name for name in _ENERGIES if getattr(self, name) is not None]
        missing = [name for name in _ENERGIES if name not in given]
        if given and missing:
            raise InputError(f"{given[0]} without {missing[0]}", expected=f"all of {', '.join(_ENERGIES)}, or none")
        for name in given:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} of", value=value, expected="a number from 0")

    # --- what follows from the fields

    @property
    def sectors_per_page(self) -> int:
        return self.page_bytes // SECTOR_BYTES

    @property
    def planes(self) -> int:
        return self.channels * self.chips_per_channel * self.dies_per_chip * self.planes_per_die

    @property
    def physical_pages(self) -> int:
        return self.planes * self.blocks_per_plane * self.pages_per_block

    @property
    def logical_pages(self) -> int:
        return int(self.physical_pages * (1 - self.over_provisioning))

    @property
    def capacity_bytes(self) -> int:
        """What the host sees."""
        return self.logical_pages * self.page_bytes

    @property
    def cache_entry_bytes(self) -> int:
        bits = 2 * math.log2(self.physical_pages) + self.sectors_per_page
        return self.mapping_entry_bytes or math.ceil(bits / 8)

    @property
    def stored_translation_pages(self) -> int:
        """Translation pages on flash: none where the whole table is in DRAM."""
        return 0 if self.mapping_cache_bytes is None else self.translation_pages

    @property
    def cached_entries(self) -> int:
        """Mapping entries that fit into the cache; all of them where there is no limit."""
        if self.mapping_cache_bytes is None:
            return self.logical_pages
        return min(self.logical_pages, self.mapping_cache_bytes // self.cache_entry_bytes)

    @property
    def entries_per_translation_page(self) -> int:
        bits = math.log2(self.physical_pages) + self.sectors_per_page
        return max(1, self.page_bytes // (self.translation_entry_bytes or math.ceil(bits / 8)))

    @property
    def translation_pages(self) -> int:
        return -(-self.logical_pages // self.entries_per_translation_page)

    @property
    def gc_threshold_blocks(self) -> int:
        return max(2, int(self.gc_threshold * self.blocks_per_plane))

    @property
    def spare_blocks_per_plane(self) -> int:
        """Blocks of a plane beyond those that full logical space, translation pages and blocks being written take."""
        data = math.ceil(math.ceil(self.logical_pages / self.planes) / self.pages_per_block)
        translation = math.ceil(math.ceil(self.stored_translation_pages / self.planes) / self.pages_per_block)
        return self.blocks_per_plane - data - translation - _OPEN_BLOCKS

    @property
    def page_times_ns(self) -> tuple[tuple[float, float], ...]:
        """(read, program) of each kind of page, in the order in which a block's pages repeat them."""
        bits = _LSB_CSB_MSB[self.cell]
        return tuple((getattr(self, f"read_{bit}_ns"), getattr(self, f"program_{bit}_ns")) for bit in bits)

    @property
    def channel_ns_per_byte(self) -> float:
        return 1000.0 / (self.channel_rate_mt_s * self.channel_width_bits / 8)

    # Command and address cycles (ONFI 3.2, chapters 4 and 5): 00h, five address cycles, 30h for a read; 80h, five
    # address cycles, data, 10h for a program; 60h, three address cycles, D0h for an erase. Each further plane repeats
    # them after tDBSY.

    def read_command_ns(self, planes: int) -> float:
        cycles = 7 * self.onfi_twc_ns
        return (
            self.onfi_tcs_ns + planes * cycles + (planes - 1) * self.onfi_tdbsy_ns + self.onfi_twb_ns + self.onfi_trr_ns
        )

    def program_command_ns(self, planes: int) -> float:
        one = 7 * self.onfi_twc_ns + self.onfi_tadl_ns + self.onfi_twpst_ns + self.onfi_twpsth_ns + self.onfi_twb_ns
        return self.onfi_tcs_ns + planes * one + (planes - 1) * self.onfi_tdbsy_ns

    def erase_command_ns(self, planes: int) -> float:
        one = 5 * self.onfi_twc_ns + self.onfi_twb_ns
        return self.onfi_tcs_ns + planes * one + (planes - 1) * self.onfi_tdbsy_ns

    @property
    def suspend_command_ns(self) -> float:
        return self.onfi_tcs_ns + 3 * self.onfi_twc_ns

    def link_ns(self, payload_bytes: int) -> float:
        """How long the host link is busy with a message: its payload in packets, each with its overhead."""
        if not self.link_lanes:
            return 0.0
        packets = -(-payload_bytes // self.tlp_payload_bytes)
        framed = payload_bytes + packets * self.tlp_overhead_bytes
        return math.ceil(framed / self.link_lanes) / self.link_lane_rate

    def dram_ns(self, size_bytes: int) -> float:
        """How long the DRAM of the write cache is busy with an access."""
        rows = -(-size_bytes // self.dram_row_bytes)
        return self.dram_latency_ns + size_bytes / self.dram_rate + (rows - 1) * self.dram_row_ns


_ENERGIES = ("array_v", "read_ma", "program_ma", "erase_ma", "channel_pj_per_bit", "host_pj_per_bit", "static_w")
_COUNTS = (
    "channels",
    "chips_per_channel",
    "dies_per_chip",
    "planes_per_die",
    "blocks_per_plane",
    "pages_per_block",
    "page_bytes",
    "block_bytes",
    "most_suspends",
    "static_wear_gap",
    "mapping_entry_bytes",
    "translation_entry_bytes",
    "translation_read_bytes",
    "write_buffer_bytes",
    "dram_row_bytes",
    "queue_depth",
    "fetch_limit",
    "tlp_payload_bytes",
    "tlp_overhead_bytes",
)


def make_parameters(**fields: object) -> NandParameters:
    """Checked parameters. Raises InputError, one line that names the rule and the values, for the first broken rule."""
    return checked(NandParameters, fields, "parameter")


def load_parameters(name: str, **changed: object) -> NandParameters:
    """The shipped set of this name, with some fields changed. Raises InputError on an unknown name or a broken rule."""

    folder = Path(hardware_profiles.__file__).parent / "flash"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise InputError("unknown set of NAND parameters", value=name, candidates=known)
    given = read_document(path).data["parameters"]
    return make_parameters(**({key: entry["value"] for key, entry in given.items()} | changed))
