//! The intervals of a run, put together from what the shards counted.

use std::collections::BTreeMap;

use super::outputs::Outputs;
use super::slices::{Grid, Slice};

/// One interval of the whole run.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// From the time at which counting began.
    pub(crate) start_ns: u64,
    pub(crate) length_ns: u64,
    pub(crate) sent: u64,
    /// Whether it is known what arrived.
    pub(crate) known: bool,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
}

impl Point {
    pub(crate) fn end_ns(&self) -> u64 {
        self.start_ns + self.length_ns
    }

    /// So many in this interval, as a rate.
    pub(crate) fn per_second(&self, count: u64) -> u64 {
        (u128::from(count) * 1_000_000_000 / u128::from(self.length_ns.max(1))) as u64
    }
}

/// Merges slices and gives each interval out once every shard has told of it, in order.
#[derive(Debug)]
pub(crate) struct Series {
    grid: Grid,
    shards: usize,
    /// How many datagrams are to arrive for each that is sent, and whether it is known how many do.
    deliveries: u64,
    known: bool,
    next: u64,
    /// Of each interval, how many shards told of it, and what.
    open: BTreeMap<u64, (usize, Slice)>,
    pub(crate) points: Vec<Point>,
}

impl Series {
    pub(crate) fn new(grid: Grid, shards: usize, deliveries: u64, known: bool) -> Self {
        Self { grid, shards, deliveries, known, next: 0, open: BTreeMap::new(), points: Vec::new() }
    }

    /// Takes a shard's part, and gives out what that completes.
    pub(crate) fn add(&mut self, index: u64, slice: Slice, outputs: &mut Outputs) -> Result<(), String> {
        match self.open.get_mut(&index) {
            Some((told, sum)) => {
                *told += 1;
                sum.add(&slice);
            }
            None => {
                self.open.insert(index, (1, slice));
            }
        }
        while let Some(entry) = self.open.first_entry()
            && *entry.key() == self.next
            && entry.get().0 >= self.shards
        {
            let (_, slice) = entry.remove();
            self.give_out(self.next, &slice, outputs)?;
        }
        Ok(())
    }

    /// Gives out what not every shard told of, because they were stopped at different times.
    pub(crate) fn finish(&mut self, outputs: &mut Outputs) -> Result<(), String> {
        for (index, (_, slice)) in std::mem::take(&mut self.open) {
            self.give_out(index, &slice, outputs)?;
        }
        Ok(())
    }

    fn point(&self, index: u64, length_ns: u64, slice: &Slice) -> Point {
        let at = |quantile| slice.latency.value_at_quantile(quantile);
        Point {
            start_ns: index * self.grid.step_ns,
            length_ns,
            sent: slice.sent,
            known: self.known,
            received: slice.received,
            lost: (slice.sent * self.deliveries).saturating_sub(slice.received),
            late: slice.late,
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: slice.latency.max(),
        }
    }

    fn give_out(&mut self, index: u64, slice: &Slice, outputs: &mut Outputs) -> Result<(), String> {
        self.next = index + 1;
        let start_ns = self.grid.start_ns + index * self.grid.step_ns;
        let length_ns = slice.end_ns.saturating_sub(start_ns);
        let point = self.point(index, length_ns, slice);
        outputs.interval(&point, &slice.latency)?;
        self.points.push(point);
        Ok(())
    }
}
