//! [`Forms`]: the packed forms of a filter, in least recently used order.

use crate::algo::{Form, Packed};
use crate::describe::{ConvError, Isa};
use crate::memory::Buffer;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The packed forms of a filter.
pub(super) struct Forms {
    kept: Mutex<Kept>,
    /// Maximum bytes of packed forms.
    most_bytes: usize,
}

#[derive(Default)]
struct Kept {
    /// The least recently used entry comes first.
    entries: Vec<Entry>,
    /// Forms that were read from bytes and that no plan has requested yet.
    stored: Vec<Stored>,
}

struct Entry {
    form: Form,
    isa: Isa,
    /// Locked while the form is packed, so that other threads wait for it instead of packing it again.
    slot: Arc<Mutex<Option<Packed>>>,
    /// Zero until the form is packed.
    bytes: usize,
}

/// A packed form that is known by name only. The [`Form`] follows when a plan requests it.
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) buffers: [Buffer; 3],
}

impl Stored {
    fn bytes(&self) -> usize {
        self.buffers.iter().map(Buffer::bytes).sum()
    }
}

/// Returns the name of a form in the byte format. It spells out everything that the form depends on.
pub(super) fn name(form: &Form, isa: Isa) -> String {
    format!("{isa} {form:?}")
}

impl Default for Forms {
    fn default() -> Self {
        Self { kept: Mutex::default(), most_bytes: usize::MAX }
    }
}

impl Forms {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the limit to `bytes` and evicts forms until it holds.
    pub(super) fn limit(&mut self, bytes: usize) {
        self.most_bytes = bytes;
        self.lock().forget(bytes);
    }

    /// Number of packed forms.
    pub(super) fn len(&self) -> usize {
        let kept = self.lock();
        kept.packed().count() + kept.stored.len()
    }

    /// Bytes of packed forms.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    pub(super) fn has(&self, form: &Form, isa: Isa) -> bool {
        let kept = self.lock();
        kept.packed().any(|entry| entry.is(form, isa)) || kept.has_stored(form, isa)
    }

    /// Adds a packed form.
    pub(super) fn keep(&self, form: &Form, packed: &Packed, isa: Isa) {
        let mut kept = self.lock();
        if !kept.entries.iter().any(|entry| entry.is(form, isa)) {
            let slot = Arc::new(Mutex::new(Some(packed.clone())));
            kept.entries.push(Entry { form: *form, isa, slot, bytes: packed.bytes() });
            kept.forget(self.most_bytes);
        }
    }

    /// Adds forms that were read from bytes, except those that are already here.
    pub(super) fn add_stored(&self, stored: Vec<Stored>) {
        let mut kept = self.lock();
        for stored in stored {
            let is_there = kept.entries.iter().any(|entry| name(&entry.form, entry.isa) == stored.name)
                || kept.stored.iter().any(|other| other.name == stored.name);
            if !is_there {
                kept.stored.push(stored);
            }
        }
        kept.forget(self.most_bytes);
    }

    /// Calls `work` with the name and the buffers of every packed form.
    pub(super) fn with_all<R>(&self, work: impl FnOnce(&[(String, [&Buffer; 3])]) -> R) -> R {
        let slots: Vec<_> = {
            let kept = self.lock();
            kept.packed().map(|entry| (name(&entry.form, entry.isa), entry.slot.clone())).collect()
        };
        // A thread that packs a form holds its slot and then takes the lock of all forms. A slot must
        // therefore not be locked while all forms are locked.
        let packed =
            |slot: &Mutex<Option<Packed>>| slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let packed: Vec<_> =
            slots.iter().filter_map(|(name, slot)| Some((name.clone(), packed(slot)?))).collect();
        let kept = self.lock();
        let stored = kept.stored.iter().map(|stored| (stored.name.clone(), stored.buffers.each_ref()));
        let packed = packed.iter().map(|(name, packed)| (name.clone(), packed.buffers()));
        work(&packed.chain(stored).collect::<Vec<_>>())
    }

    /// Returns the packed weights in `form`. Calls `pack` if they are not here. Keeps the result if `keep` is
    /// set.
    pub(super) fn get(
        &self,
        form: &Form,
        isa: Isa,
        keep: bool,
        pack: impl FnOnce() -> Result<Packed, ConvError>,
    ) -> Result<Packed, ConvError> {
        let slot = {
            let mut kept = self.lock();
            match kept.use_entry(form, isa) {
                Some(slot) => slot,
                None if !keep && !kept.has_stored(form, isa) => {
                    drop(kept);
                    return pack();
                }
                None => kept.new_entry(form, isa),
            }
        };
        let mut slot_guard = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = &*slot_guard {
            return Ok(packed.clone());
        }
        let stored = self.lock().take_stored(form, isa);
        let packed = match stored {
            Some(stored) => form.with(stored.buffers),
            None => pack(),
        };
        let mut kept = self.lock();
        match &packed {
            Ok(packed) => {
                *slot_guard = Some(packed.clone());
                kept.packed_entry(&slot, packed.bytes());
                kept.forget(self.most_bytes);
            }
            // The next request tries again.
            Err(_) => kept.entries.retain(|entry| !Arc::ptr_eq(&entry.slot, &slot)),
        }
        packed
    }
}

impl Entry {
    fn is(&self, form: &Form, isa: Isa) -> bool {
        self.isa == isa && self.form == *form
    }
}

impl Kept {
    fn packed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.bytes > 0)
    }

    fn bytes(&self) -> usize {
        let packed: usize = self.entries.iter().map(|entry| entry.bytes).sum();
        packed + self.stored.iter().map(Stored::bytes).sum::<usize>()
    }

    /// Returns the slot of a form that is packed or being packed, and marks it as the most recently used.
    fn use_entry(&mut self, form: &Form, isa: Isa) -> Option<Arc<Mutex<Option<Packed>>>> {
        let index = self.entries.iter().position(|entry| entry.is(form, isa))?;
        let entry = self.entries.remove(index);
        let slot = entry.slot.clone();
        self.entries.push(entry);
        Some(slot)
    }

    fn new_entry(&mut self, form: &Form, isa: Isa) -> Arc<Mutex<Option<Packed>>> {
        let slot = Arc::new(Mutex::new(None));
        self.entries.push(Entry { form: *form, isa, slot: slot.clone(), bytes: 0 });
        slot
    }

    fn packed_entry(&mut self, slot: &Arc<Mutex<Option<Packed>>>, bytes: usize) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.slot, slot)) {
            entry.bytes = bytes;
        }
    }

    fn has_stored(&self, form: &Form, isa: Isa) -> bool {
        !self.stored.is_empty() && {
            let name = name(form, isa);
            self.stored.iter().any(|stored| stored.name == name)
        }
    }

    /// Removes and returns the form that was read under this name; `None` if its buffers have wrong lengths.
    fn take_stored(&mut self, form: &Form, isa: Isa) -> Option<Stored> {
        if self.stored.is_empty() {
            return None;
        }
        let name = name(form, isa);
        let index = self.stored.iter().position(|stored| stored.name == name)?;
        let stored = self.stored.swap_remove(index);
        (stored.buffers.each_ref().map(|buffer| buffer.len()) == form.lens()).then_some(stored)
    }

    /// Evicts forms until at most `most` bytes are left. Stored forms that no plan has requested go first,
    /// then the least recently used ones. The newest entry always stays.
    fn forget(&mut self, most: usize) {
        while self.bytes() > most {
            if self.stored.pop().is_some() {
                continue;
            }
            let newest = self.entries.len().saturating_sub(1);
            let Some(oldest) = self.entries[..newest].iter().position(|entry| entry.bytes > 0) else {
                return;
            };
            self.entries.remove(oldest);
        }
    }
}
