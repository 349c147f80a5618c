//! Bounded reading of untrusted bytes.

use std::{cell::Cell, ops::Range};

/// The maximum number of segments, chunks, boxes or directory entries that a parser visits in one list.
pub(super) const MAX_ENTRIES: usize = 512;

/// The number of reads that the inspection of one file may perform. It bounds the time of every parser, loops
/// within loops included, since each turn of a loop reads at least once.
#[derive(Debug)]
pub struct ReadBudget {
    remaining: Cell<u32>,
}

impl ReadBudget {
    /// Enough for a HEIF file with the maximum number of properties and of tiles.
    pub const MAX_READS: u32 = 8192;

    /// The number of reads so far.
    #[must_use]
    pub fn spent(&self) -> u32 {
        Self::MAX_READS - self.remaining.get()
    }

    /// Whether a parser may have ended for lack of reads. What it returned is then not to be trusted.
    pub(super) fn is_exhausted(&self) -> bool {
        self.remaining.get() == 0
    }

    fn spend_one(&self) -> Option<()> {
        self.remaining.set(self.remaining.get().checked_sub(1)?);
        Some(())
    }
}

impl Default for ReadBudget {
    fn default() -> Self {
        Self { remaining: Cell::new(Self::MAX_READS) }
    }
}

/// A part of a file. A read outside of it, or beyond the budget, returns `None`. Nothing is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByteView<'a> {
    bytes: &'a [u8],
    budget: &'a ReadBudget,
}

impl<'a> ByteView<'a> {
    pub(super) fn new(bytes: &'a [u8], budget: &'a ReadBudget) -> Self {
        Self { bytes, budget }
    }

    pub(super) fn len(self) -> usize {
        self.bytes.len()
    }

    /// The part in `range`, if the whole range is within this one.
    pub(super) fn slice(self, range: Range<usize>) -> Option<Self> {
        Some(Self { bytes: self.bytes.get(range)?, ..self })
    }

    /// The part from `start` to the end.
    pub(super) fn skip(self, start: usize) -> Option<Self> {
        self.slice(start..self.len())
    }

    pub(super) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.budget.spend_one()?;
        self.bytes.get(at..)?.first_chunk().copied()
    }

    pub(super) fn u8(self, at: usize) -> Option<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    pub(super) fn u16_be(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn u16_le(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32_be(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn u32_le(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64_be(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// The position of the first byte from `start` on that is not `byte`. One read, however long the run is:
    /// a caller that only moves forward visits each byte at most once.
    pub(super) fn skip_run(self, start: usize, byte: u8) -> Option<usize> {
        self.budget.spend_one()?;
        Some(start + self.bytes.get(start..)?.iter().position(|&other| other != byte)?)
    }
}
