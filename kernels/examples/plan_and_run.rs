//! Describe a convolution, plan it once, run it many times, and print the reasons for the choice.

use kernels::*;

fn main() -> Result<(), ConvError> {
    // 64 channels of 56x56 to 64, 3x3 with padding 1, then bias and ReLU.
    let desc = ConvDesc::builder(Shape4::new(1, 64, 56, 56), 64, Size2::square(3))
        .pad(Pad2::all(1))
        .epilogue(EpilogueSpec::bias(Activation::Relu))
        .build()?;
    let (filter, bias) = (vec![0.01; desc.filter_len()], vec![0.5; 64]);

    // Once: choose an algorithm and pack the weights. All memory is allocated here.
    let plan = ConvPlan::new(&desc, Weights::with_bias(&filter, &bias), &PlanOptions::default())?;
    let mut workspace = Workspace::for_req(plan.workspace_req())?;

    // Many times: run. Nothing is allocated.
    let input = vec![1.0; desc.input().len(desc.layout())?];
    let mut output = vec![0.0; desc.output().len(desc.output_layout())?];
    for _ in 0..10 {
        let io = ConvIo::new(
            TensorRef::packed(&input, desc.input(), desc.layout())?,
            TensorMut::packed(&mut output, desc.output(), desc.output_layout())?,
        );
        plan.run(io, &mut workspace, Threads::Seq)?;
    }

    // A pixel in the middle is the sum of 64 * 9 products of 0.01, plus the bias.
    let middle = output[28 * 56 + 28];
    assert!((middle - (64.0 * 9.0 * 0.01 + 0.5)).abs() < 1e-3);
    println!("{}", plan.explain());
    Ok(())
}
