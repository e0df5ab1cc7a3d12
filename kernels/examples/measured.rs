//! Choose the algorithm by measured times instead of the cost model, and store the times in a file.

use kernels::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join("convkernels-wisdom.txt");
    // Invalid entries are ignored, each with a reason. A missing file counts as empty.
    let Loaded { wisdom, ignored, .. } = Wisdom::load(&path);
    println!("{} problems known, {} lines ignored", wisdom.len(), ignored.len());

    let desc = ConvDesc::builder(Shape4::new(1, 96, 27, 27), 128, Size2::square(5))
        .pad(Pad2::all(2))
        .layout(Layout::Nchw16c)
        .build()?;
    let filter = vec![0.01; desc.filter_len()];
    // The plan times its candidates on the real problem, unless the file has their times. This takes about 10
    // ms.
    let options = PlanOptions::default().select(Select::Measured);
    let plan = ConvPlan::with_wisdom(&desc, Weights::filter(&filter), &options, &wisdom)?;
    println!("{}", plan.explain());
    wisdom.save(&path)?;

    // The cost model can use a profile of this machine. Measuring the profile takes less than 300 ms.
    let profile = Profile::measure(Isa::detect())?;
    let by_model = ConvPlan::choice(&desc, &PlanOptions::default().profile(profile))?;
    println!("timed: {}; by the model of this machine: {}", plan.algorithm(), by_model.method);
    Ok(())
}
