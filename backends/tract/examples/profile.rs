//! Scratch profile.
mod common;
use std::collections::HashMap;
use tract_onnx::prelude::*;
fn main() -> TractResult<()> {
    let a: Vec<String> = std::env::args().collect();
    let mut m = tract_onnx::onnx().model_for_path(&a[2])?;
    if let Some(s) = a.get(4) { m.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), &common::parse_shape(s)?.1))?; }
    let m = m.into_typed()?.into_decluttered()?;
    let x = common::random_input(&m, 0)?;
    let m = if a[1] == "with" { convkernels_tract::accelerate(m, &Default::default())? } else { m };
    let r = m.into_optimized()?.into_runnable()?;
    let n: usize = a[3].parse()?;
    let ex = if n > 1 { tract_linalg::multithread::Executor::multithread(n) } else { Default::default() };
    let mut per: HashMap<usize, Vec<f64>> = HashMap::new();
    tract_linalg::multithread::multithread_tract_scope(ex, || -> TractResult<()> {
        let mut s = r.spawn()?;
        for _ in 0..10 {
            s.run_plan_with_eval(tvec!(x.clone()), |c, st, node, inp| {
                let t = std::time::Instant::now();
                let o = tract_onnx::tract_core::plan::eval(c, st, node, inp);
                per.entry(node.id).or_default().push(t.elapsed().as_secs_f64() * 1e3);
                o
            })?;
        }
        Ok(())
    })?;
    let mut all: Vec<(f64, usize)> = per.iter_mut().map(|(k, v)| { v.sort_by(f64::total_cmp); (v[v.len() / 3], *k) }).collect();
    let mut by: HashMap<String, (f64, usize)> = HashMap::new();
    let m = r.model();
    for (t, k) in &all { let e = by.entry(m.node(*k).op.name().to_string()).or_default(); e.0 += t; e.1 += 1; }
    let mut by: Vec<_> = by.into_iter().collect(); by.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    println!("total {:.2}", all.iter().map(|a| a.0).sum::<f64>());
    for (n, (t, c)) in by.iter().take(12) { println!("{t:8.2} {c:4} {n}"); }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (t, k) in all.iter().take(25) { let n = m.node(*k); println!("  {t:.2} {} {} {:?} {:?}", n.name, n.op.name(), n.op.info()?.first(), n.outputs[0].fact.shape); }
    Ok(())
}
