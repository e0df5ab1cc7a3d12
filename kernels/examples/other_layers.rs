//! The layers between convolutions: pooling, normalisation, sums, fully connected layers, softmax.

use kernels::*;

fn main() -> Result<(), ConvError> {
    let ops = Ops::new(None)?;
    let (layout, shape) = (Layout::Nchw16c, Shape4::new(1, 32, 28, 28));
    let image: Vec<f32> = (0..shape.len(layout)?).map(|i| (i % 17) as f32 - 8.0).collect();
    let threads = Threads::Seq;

    // Max pooling, 2x2 with stride 2.
    let pool =
        PoolDesc::builder(shape, Size2::square(2), PoolKind::Max).stride(Size2::square(2)).layout(layout);
    let pool = pool.build()?;
    let half = pool.output();
    let mut pooled = vec![0.0; half.len(layout)?];
    let input = TensorRef::packed(&image, shape, layout)?;
    ops.pool(&pool, input, TensorMut::packed(&mut pooled, half, layout)?, threads)?;

    // Group normalisation, then a residual sum with ReLU.
    let spec = NormSpec { groups: 8, eps: 1e-5 };
    let mut normed = vec![0.0; pooled.len()];
    let input = TensorRef::packed(&pooled, half, layout)?;
    ops.normalize(spec, None, None, input, TensorMut::packed(&mut normed, half, layout)?, threads)?;
    let addend = TensorRef::packed(&pooled, half, layout)?;
    ops.add(addend, TensorMut::packed(&mut normed, half, layout)?, Activation::Relu, threads)?;
    assert!(normed.iter().all(|&x| x >= 0.0));

    // A reorder from the blocked layout to NCHW, then a fully connected layer with ten classes.
    let mut plain = vec![0.0; half.len(Layout::Nchw)?];
    let input = TensorRef::packed(&normed, half, layout)?;
    ops.copy(input, TensorMut::packed(&mut plain, half, Layout::Nchw)?, threads)?;
    let (weights, bias) = (vec![0.001; plain.len() * 10], vec![0.0; 10]);
    let epilogue = EpilogueSpec::bias(Activation::None);
    let (weights, options) = (Weights::with_bias(&weights, &bias), PlanOptions::default());
    let linear = LinearPlan::new(1, plain.len(), 10, epilogue, weights, &options)?;
    let mut classes = [0.0; 10];
    let mut workspace = Workspace::for_req(linear.workspace_req())?;
    linear.run(&plain, &mut classes, None, &mut workspace, threads)?;

    // Softmax over the classes.
    let shape = Shape4::new(1, 10, 1, 1);
    ops.softmax(TensorMut::packed(&mut classes, shape, Layout::Nchw)?, threads)?;
    assert!((classes.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    println!("classes: {classes:.3?}");
    Ok(())
}
