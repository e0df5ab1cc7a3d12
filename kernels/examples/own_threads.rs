//! Run plans on threads of your own, without rayon: implement [`Executor`].
//!
//! `cargo run --release --no-default-features --example own_threads`

use kernels::*;
use std::thread::{available_parallelism, scope};

/// Starts new threads for each run. A real pool would keep its threads; the trait requires no more than this.
struct Scoped {
    threads: usize,
}

impl Executor for Scoped {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        scope(|scope| {
            for number in 1..parts {
                scope.spawn(move || part(number));
            }
            part(0);
        });
    }
}

fn main() -> Result<(), ConvError> {
    let executor = Scoped { threads: available_parallelism().map_or(2, |n| n.get()) };
    let threads = Threads::Executor(&executor);

    let desc =
        ConvDesc::builder(Shape4::new(8, 64, 28, 28), 128, Size2::square(3)).pad(Pad2::all(1)).build()?;
    let filter: Vec<f32> = (0..desc.filter_len()).map(|i| (i % 7) as f32 * 0.1).collect();
    // The plan and its workspace are sized for the threads of the executor.
    let options = PlanOptions::default().threads(&threads);
    let plan = ConvPlan::new(&desc, Weights::filter(&filter), &options)?;
    let mut workspace = Workspace::for_req(plan.workspace_req())?;

    let input: Vec<f32> = (0..desc.input().len(Layout::Nchw)?).map(|i| (i % 5) as f32).collect();
    let mut run = |threads| -> Result<Vec<f32>, ConvError> {
        let mut output = vec![0.0; desc.output().len(Layout::Nchw)?];
        let io = ConvIo::new(
            TensorRef::packed(&input, desc.input(), Layout::Nchw)?,
            TensorMut::packed(&mut output, desc.output(), Layout::Nchw)?,
        );
        plan.run(io, &mut workspace, threads)?;
        Ok(output)
    };
    // The bits of the output do not depend on the threads.
    assert!(run(threads)? == run(Threads::Seq)?);
    println!("{} threads of our own compute the same bits as one", executor.threads);
    Ok(())
}
