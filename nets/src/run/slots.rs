//! Which buffer each activation goes to: one that nobody needs any more, if there is one.

/// What one step does to the activations, by number.
pub(super) struct Use {
    pub(super) reads: Vec<usize>,
    pub(super) writes: Option<usize>,
}

/// For each activation its slot, and the elements of each slot.
pub(super) struct Slots {
    pub(super) of: Vec<usize>,
    pub(super) lens: Vec<usize>,
}

impl Slots {
    /// Assigns slots in the order of the steps. `result` is kept to the end.
    pub(super) fn assign(lens: &[usize], uses: &[Use], result: Option<usize>) -> Self {
        let last = last_reads(lens.len(), uses, result);
        let mut slots = Self { of: vec![0; lens.len()], lens: Vec::new() };
        let mut free: Vec<usize> = Vec::new();
        for (step, Use { reads, writes }) in uses.iter().enumerate() {
            if let Some(activation) = *writes {
                slots.of[activation] = slots.take(&mut free, lens[activation]);
            }
            let dead = reads.iter().chain(writes).filter(|&&activation| last[activation] == step);
            for &activation in dead {
                let slot = slots.of[activation];
                if !free.contains(&slot) {
                    free.push(slot);
                }
            }
        }
        slots
    }

    /// The smallest free slot that is large enough; else the largest, made larger; else a new one.
    fn take(&mut self, free: &mut Vec<usize>, len: usize) -> usize {
        let fits = (0..free.len()).filter(|&i| self.lens[free[i]] >= len).min_by_key(|&i| self.lens[free[i]]);
        let largest = || (0..free.len()).max_by_key(|&i| self.lens[free[i]]);
        let Some(index) = fits.or_else(largest) else {
            self.lens.push(len);
            return self.lens.len() - 1;
        };
        let slot = free.swap_remove(index);
        self.lens[slot] = self.lens[slot].max(len);
        slot
    }
}

/// For each activation the last step that reads it, or that writes it if none does.
fn last_reads(activations: usize, uses: &[Use], result: Option<usize>) -> Vec<usize> {
    let mut last = vec![0; activations];
    for (step, Use { reads, writes }) in uses.iter().enumerate() {
        for &activation in reads.iter().chain(writes) {
            last[activation] = step;
        }
    }
    if let Some(result) = result {
        last[result] = usize::MAX;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_needs_two_slots_and_a_branch_three() {
        let step = |reads: &[usize], writes| Use { reads: reads.to_vec(), writes: Some(writes) };
        let chain = [step(&[], 0), step(&[0], 1), step(&[1], 2), step(&[2], 3)];
        assert_eq!(Slots::assign(&[5, 3, 9, 1], &chain, Some(3)).lens, [9, 3]);
        let branch = [step(&[], 0), step(&[0], 1), step(&[1], 2), step(&[0, 2], 3)];
        let slots = Slots::assign(&[4; 4], &branch, Some(3));
        assert_eq!(slots.lens, [4; 3]);
        assert!(slots.of[3] != slots.of[0] && slots.of[3] != slots.of[2]);
    }
}
