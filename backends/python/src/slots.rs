//! Assigns the values of a program to buffers. Values that are not needed at the same time share one.

/// Buffers, and which of them are free.
#[derive(Default)]
pub(crate) struct Slots {
    lens: Vec<usize>,
    free: Vec<usize>,
}

impl Slots {
    /// Takes a slot for `len` elements: the smallest free one that is large enough, else the largest free one,
    /// which grows, else a new one.
    pub(crate) fn take(&mut self, len: usize) -> usize {
        let fits = |&(_, &slot): &(usize, &usize)| self.lens[slot] >= len;
        let free = || self.free.iter().enumerate();
        let smallest = free().filter(fits).min_by_key(|&(_, &slot)| self.lens[slot]);
        let chosen = smallest.or_else(|| free().max_by_key(|&(_, &slot)| self.lens[slot]));
        match chosen.map(|(index, _)| index) {
            Some(index) => {
                let slot = self.free.swap_remove(index);
                self.lens[slot] = self.lens[slot].max(len);
                slot
            }
            None => {
                self.lens.push(len);
                self.lens.len() - 1
            }
        }
    }

    /// Gives a slot back.
    pub(crate) fn free(&mut self, slot: usize) {
        if !self.free.contains(&slot) {
            self.free.push(slot);
        }
    }

    /// The elements of each slot.
    pub(crate) fn lens(self) -> Vec<usize> {
        self.lens
    }
}
