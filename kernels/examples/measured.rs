//! Let times choose the algorithm instead of the cost model, and remember them in a file.
//!
//! `cargo run --release --example measured`

use kernels::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join("convkernels-wisdom.txt");
    // Entries that cannot be trusted are ignored, each with a reason. A file that is not there holds nothing.
    let Loaded { wisdom, ignored, .. } = Wisdom::load(&path);
    println!("{} problems known, {} lines ignored", wisdom.len(), ignored.len());

    let desc = ConvDesc::builder(Shape4::new(1, 96, 27, 27), 128, Size2::square(5))
        .pad(Pad2::all(2))
        .layout(Layout::Nchw16c)
        .build()?;
    let filter = vec![0.01; desc.filter_len()];
    // The candidates are timed on the real problem, some milliseconds in all, unless the file knows their times.
    let options = PlanOptions::default().select(Select::Measured);
    let plan = ConvPlan::with_wisdom(&desc, Weights::filter(&filter), &options, &wisdom)?;
    println!("{}", plan.explain());
    wisdom.save(&path)?;

    // The cost model can be told of this machine: measured once, in some 300 ms.
    let profile = Profile::measure(Isa::detect())?;
    let by_model = ConvPlan::choice(&desc, &PlanOptions::default().profile(profile))?;
    println!("timed: {}; by the model of this machine: {}", plan.algorithm(), by_model.algorithm);
    Ok(())
}
