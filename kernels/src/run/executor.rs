//! [`Executor`]: the caller's own threads.

/// Maximum number of parts into which a run is split for an [`Executor`] or a team. A run keeps its parts on the stack
/// of the calling thread, because it allocates nothing.
pub(super) const MOST_PARTS: usize = if cfg!(all(test, loom)) { 64 } else { 1024 };

/// A pool of threads that the caller owns: anything that can call a function several times at once.
///
/// A run asks for the number of threads, splits its output into at most as many parts (at most 1024), and calls
/// [`run`](Self::run) once. The bits of the output depend neither on the number of threads nor on which
/// thread computes which part.
///
/// ```
/// /// Starts its threads anew for every run. A pool that keeps them is faster.
/// struct Scoped(usize);
///
/// impl kernels::Executor for Scoped {
///     fn threads(&self) -> usize {
///         self.0
///     }
///
///     fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|scope| {
///             (1..parts).for_each(|number| drop(scope.spawn(move || part(number))));
///             part(0);
///         });
///     }
/// }
/// # use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// # let desc = ConvDesc::builder(Shape4::new(4, 16, 8, 8), 16, Size2::square(3)).build()?;
/// # let (filter, input, mut output) = (vec![0.5; 16 * 16 * 9], vec![1.0; 4 * 16 * 64], vec![0.0; 4 * 16 * 36]);
///
/// let threads = Scoped(4);
/// let plan = ConvPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default().max_threads(4))?;
/// # let mut workspace = Workspace::for_req(plan.workspace_req())?;
/// # let io = ConvIo::new(
/// #     TensorRef::packed(&input, desc.input(), desc.layout())?,
/// #     TensorMut::packed(&mut output, desc.output(), desc.layout())?,
/// # );
/// plan.run(io, &mut workspace, Threads::Executor(&threads))?;
/// # assert_eq!(output[0], 72.0);
/// # Ok(())
/// # }
/// ```
pub trait Executor: Sync {
    /// Returns how many parts can run at the same time, the calling thread included.
    fn threads(&self) -> usize;

    /// Calls `part(0)`, `part(1)`, ..., `part(parts - 1)`, once each, in any order and on any threads.
    /// Returns when all calls have returned.
    ///
    /// The calling thread computes every part that was not called before this function returns. A second call
    /// of the same part does nothing. An executor that breaks the rules is therefore slow, but its output is
    /// right.
    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync));
}
