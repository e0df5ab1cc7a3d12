//! [`Threads::share_rows`]: loops of the caller on the threads of a run.

use super::Threads;
use super::elementwise::WORTH_A_THREAD;
use super::threads::Split;
use crate::work::parts::{Axis, Region, SplitUnits};

/// Elements of a cache line or more, which no two threads should write.
const APART: usize = 64;

/// Neighbouring rows of an output.
struct Rows<'a> {
    first: usize,
    /// Elements of a row.
    row: usize,
    data: &'a mut [f32],
}

impl Region for Rows<'_> {
    fn len(&self, axis: Axis) -> usize {
        if axis == Axis::Pixels { self.data.len() / self.row } else { 1 }
    }

    fn split(self, _: Axis, count: usize) -> (Self, Self) {
        let Self { first, row, data } = self;
        let (head, tail) = data.split_at_mut((count * row).min(data.len()));
        (Self { first, row, data: head }, Self { first: first + count, row, data: tail })
    }
}

impl Threads<'_> {
    /// Calls `work` with parts of `output`, which has rows of `row` elements, on these threads: with the number of the first row
    /// of a part and the elements of its rows. Each row is in one part.
    ///
    /// There are at most as many parts as threads, and as many as `operations` justifies: the number of operations of all parts.
    /// If `work` computes each row from its number alone, the result does not depend on the number of threads. It allocates
    /// nothing. An output that does not consist of whole rows is one part.
    ///
    /// ```
    /// use kernels::Threads;
    /// let mut output = [0.0; 6];
    /// let work = |first: usize, rows: &mut [f32]| {
    ///     rows.chunks_mut(2).zip(first..).for_each(|(row, number)| row.fill(number as f32));
    /// };
    /// Threads::Seq.share_rows(&mut output, 2, 6, work);
    /// assert_eq!(output, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    /// ```
    pub fn share_rows(
        self,
        output: &mut [f32],
        row: usize,
        operations: u64,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        if row == 0 || !output.len().is_multiple_of(row) {
            return work(0, output);
        }
        let worth = usize::try_from(operations / WORTH_A_THREAD).unwrap_or(usize::MAX).max(1);
        let split = Split {
            parts: self.count().min(worth),
            split_units: SplitUnits::new(APART.div_ceil(row), 1),
            slab_len: 0,
        };
        split.run(self, Rows { first: 0, row, data: output }, &mut [], &|rows: Rows<'_>, _: &mut [f32]| {
            work(rows.first, rows.data);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::run::Executor;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Scoped(usize);

    impl Executor for Scoped {
        fn threads(&self) -> usize {
            self.0
        }

        fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| (0..parts).for_each(|number| drop(scope.spawn(move || part(number)))));
        }
    }

    #[test]
    fn every_row_is_computed_once_by_as_many_parts_as_are_worth_it() {
        for (rows, row) in [(1, 1), (1000, 1), (37, 3), (5, 200), (640, 64)] {
            for (threads, operations, most) in
                [(1, u64::MAX, 1), (3, u64::MAX, 3), (3, 250_000, 2), (7, 10, 1)]
            {
                let (mut output, calls) = (vec![0.0; rows * row], AtomicUsize::new(0));
                Threads::Executor(&Scoped(threads)).share_rows(
                    &mut output,
                    row,
                    operations,
                    |first, part| {
                        calls.fetch_add(1, Ordering::Relaxed);
                        for (row, number) in part.chunks_exact_mut(row).zip(first..) {
                            row.iter_mut().for_each(|value| *value += number as f32 + 1.0);
                        }
                    },
                );
                let expected: Vec<f32> = (0..rows * row).map(|place| (place / row) as f32 + 1.0).collect();
                let calls = calls.into_inner();
                assert_eq!(output, expected, "{rows} rows of {row}, {threads} threads");
                assert!(
                    (1..=most).contains(&calls),
                    "{rows} rows of {row}, {threads} threads: {calls} parts"
                );
                let enough = rows * row / APART;
                assert!(
                    calls == most.min(enough.max(1)) || enough < 2 * most,
                    "{calls} parts for {rows} rows of {row}"
                );
            }
        }
    }

    #[test]
    fn an_output_that_is_not_whole_rows_is_one_part() {
        for row in [0, 4] {
            let mut output = [0.0; 6];
            Threads::Executor(&Scoped(2)).share_rows(&mut output, row, u64::MAX, |first, part| {
                assert_eq!((first, part.len()), (0, 6));
                part.fill(1.0);
            });
            assert_eq!(output, [1.0; 6]);
        }
    }
}
