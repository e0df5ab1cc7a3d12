//! A program that is compiled for the shapes of its inputs, and its runs.

use crate::pools;
use kernels::{
    Activation, BLOCK, Buffer, ConvError, ConvIo, ConvPlan, Layout, Ops, Pitch, PoolDesc, Shape4, TensorMut,
    TensorOut, TensorRef, Threads, Workspace, WorkspaceReq,
};
use std::sync::{Arc, Mutex, PoisonError};

/// A tensor between two operations. Its slot is `None` for an input of the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(crate) shape: Shape4,
    pub(crate) layout: Layout,
    pub(crate) slot: Option<usize>,
}

/// A layer or a copy: the values that it reads, and the one that it writes.
pub(crate) struct Operation {
    pub(crate) what: What,
    pub(crate) reads: Vec<usize>,
    pub(crate) writes: usize,
}

/// What an operation computes.
pub(crate) enum What {
    Conv(Arc<ConvPlan>),
    Pool(Box<PoolDesc>),
    /// The sum of the values read, then the activation. Of one value it is the activation alone.
    Sum(Activation),
    Concat,
}

/// A program for inputs of certain shapes.
pub(crate) struct Compiled {
    pub(crate) ops: Ops,
    pub(crate) values: Vec<Value>,
    pub(crate) operations: Vec<Operation>,
    /// Values.
    pub(crate) outputs: Vec<usize>,
    /// Elements of each buffer.
    pub(crate) slots: Vec<usize>,
    pub(crate) workspace: WorkspaceReq,
    pub(crate) macs: u64,
    /// One for each call that ran at the same time.
    pub(crate) idle: Mutex<Vec<Memory>>,
}

/// The buffers of one run.
pub(crate) struct Memory {
    slots: Vec<Buffer>,
    workspace: Workspace,
}

impl Compiled {
    /// The shapes of the outputs.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = Shape4> {
        self.outputs.iter().map(|&value| self.values[value].shape)
    }

    /// Runs the layers and copies their results to `outputs`.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`]. Shapes were checked when the program was compiled.
    pub(crate) fn run(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: Vec<TensorOut<'_>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = match idle {
            Some(memory) => memory,
            None => self.memory()?,
        };
        let threads = pools::for_work(threads, self.macs);
        let result = threads.with_team(|threads| self.forward(inputs, outputs, &mut memory, threads));
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        result
    }

    fn memory(&self) -> Result<Memory, ConvError> {
        let slots = self.slots.iter().map(|&len| Buffer::zeroed(len)).collect::<Result<Vec<_>, _>>()?;
        Ok(Memory { slots, workspace: Workspace::for_req(self.workspace)? })
    }

    fn forward(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: Vec<TensorOut<'_>>,
        memory: &mut Memory,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let Memory { slots, workspace } = memory;
        for operation in &self.operations {
            let Value { shape, layout, slot } = self.values[operation.writes];
            let Some(slot) = slot else { continue };
            // The slot of the result differs from those of the values read.
            let mut buffer = std::mem::replace(&mut slots[slot], Buffer::empty());
            let to = TensorMut::packed(&mut buffer[..shape.len(layout)?], shape, layout)?;
            let reads: Result<Vec<_>, _> =
                operation.reads.iter().map(|&value| self.read(value, inputs, slots)).collect();
            let result =
                reads.and_then(|reads| self.compute(&operation.what, &reads, to, workspace, threads));
            slots[slot] = buffer;
            result?;
        }
        for (&value, output) in self.outputs.iter().zip(outputs) {
            self.ops.copy(self.read(value, inputs, slots)?, output, threads)?;
        }
        Ok(())
    }

    fn read<'a>(
        &self,
        value: usize,
        inputs: &[TensorRef<'a>],
        slots: &'a [Buffer],
    ) -> Result<TensorRef<'a>, ConvError> {
        let Value { shape, layout, slot } = self.values[value];
        match slot {
            Some(slot) => TensorRef::packed(&slots[slot][..shape.len(layout)?], shape, layout),
            None => Ok(inputs[value]),
        }
    }

    fn compute(
        &self,
        what: &What,
        reads: &[TensorRef<'_>],
        mut to: TensorMut<'_>,
        workspace: &mut Workspace,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        match what {
            What::Conv(plan) => {
                let mut io = ConvIo::new(reads[0], to);
                io.residual = reads.get(1).copied();
                plan.run(io, workspace, threads)
            }
            What::Pool(desc) => self.ops.pool(desc, reads[0], to, threads),
            What::Sum(activation) => {
                let (shape, layout) = (to.shape(), to.layout());
                self.ops.copy(reads[0], TensorMut::packed(to.data_mut(), shape, layout)?, threads)?;
                match reads.get(1) {
                    Some(&addend) => self.ops.add(addend, to, *activation, threads),
                    None => self.ops.activate(*activation, None, to, threads),
                }
            }
            What::Concat => self.concat(reads, to, threads),
        }
    }

    fn concat(
        &self,
        reads: &[TensorRef<'_>],
        mut to: TensorMut<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (all, layout) = (to.shape(), to.layout());
        let image = all.len(layout)? / all.n;
        let pixel = if layout == Layout::Nchw16c { BLOCK } else { 1 };
        let mut first = 0;
        for &part in reads {
            let start = to.offset(0, first, 0, 0);
            let data = &mut to.data_mut()[start..];
            let slice = TensorMut::with_pitch(data, part.shape(), layout, Pitch { image, pixel })?;
            self.ops.copy(part, slice, threads)?;
            first += part.shape().c;
        }
        Ok(())
    }
}
