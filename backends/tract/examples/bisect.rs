//! Scratch.
mod common;
use tract_onnx::prelude::*;
fn main() -> TractResult<()> {
    let a: Vec<String> = std::env::args().collect();
    let mut m = tract_onnx::onnx().model_for_path(&a[1])?;
    if let Some(s) = a.get(2) { m.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), &common::parse_shape(s)?.1))?; }
    let m = m.into_typed()?.into_decluttered()?;
    let (_, r) = convkernels_tract::accelerate_with_report(m.clone(), &Default::default())?;
    let x = common::random_input(&m, 0)?;
    for l in &r.replaced {
        let mut t = m.clone();
        let id = t.node_id_by_name(&l.node)?;
        t.select_output_outlets(&[OutletId::new(id, 0)])?;
        t.compact()?;
        let w = convkernels_tract::accelerate(t.clone(), &Default::default())?.into_optimized()?.into_runnable()?.run(tvec!(x.clone()))?;
        let wo = t.into_optimized()?.into_runnable()?.run(tvec!(x.clone()))?;
        if std::env::var("DUMP").is_ok() { let (w, wo) = (w[0].view(), wo[0].view()); let (w, wo) = (w.as_slice::<f32>()?, wo.as_slice::<f32>()?);
            println!("with {:?} without {:?}", &w[..8.min(w.len())], &wo[..8.min(wo.len())]); let worst = (0..w.len()).max_by(|a, b| (w[*a]-wo[*a]).abs().total_cmp(&(w[*b]-wo[*b]).abs())).unwrap(); println!("worst at {worst}: {} {}", w[worst], wo[worst]); }
        let e = common::difference(&w, &wo)?;
        println!("{:.1e} {} {}", e, l.node, l.layer);
        if e > 1e-3 { break }
    }
    Ok(())
}
