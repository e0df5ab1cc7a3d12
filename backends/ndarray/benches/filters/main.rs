//! Filters of one image by this crate, by other crates, and by OpenCV and SciPy if a Python interpreter is
//! given. All contenders run in the same rounds, fast ones several times per round, and all outputs are
//! compared with sums in `f64`.
//!
//! ```text
//! cargo bench -p convkernels-ndarray --bench filters -- [--size 1080x1920] [--rounds 15] [--threads 1,2] [--case 3x3]
//!                                       [--python PATH]
//! ```
//!
//! The environment variable `BENCH_PYTHON` can name the interpreter instead.
#![allow(missing_docs)]

mod cases;
mod contenders;
mod python;

use cases::Reference;
use contenders::Contender;
use ndarray::Array2;
use python::Worker;
use std::error::Error;
use std::process::ExitCode;

/// Relative L2 error above which an output is not the output that was asked for. The promise of this library
/// is 2e-6, and peers that sum thousands of products one after another come to 1e-5.
const MOST_ERROR: f64 = 1e-4;
const OUR_ERROR: f64 = 2e-6;
/// A contender stays out of further rounds after so many seconds.
const BUDGET: f64 = 4.0;

struct Options {
    size: (usize, usize),
    rounds: usize,
    threads: Vec<usize>,
    case: Option<String>,
    python: Option<String>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let python = std::env::var("BENCH_PYTHON").ok();
    let mut options = Options { size: (1080, 1920), rounds: 15, threads: vec![1, 2], case: None, python };
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name}: expected a value"))?;
        match name.as_str() {
            "--size" => {
                let (h, w) = value.split_once('x').ok_or("--size: expected HEIGHTxWIDTH")?;
                options.size = (h.parse()?, w.parse()?);
            }
            "--rounds" => options.rounds = value.parse::<usize>()?.max(1),
            "--threads" => options.threads = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--case" => options.case = Some(value),
            "--python" => options.python = Some(value),
            _ => return Err(format!("expected one of the options in the source, got {name}").into()),
        }
    }
    Ok(options)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = options()?;
    let image = cases::image(options.size);
    let mut worker = options.python.as_deref().map(|python| Worker::start(python, &image)).transpose()?;
    let mut all_right = true;
    for case in cases::all() {
        if options.case.as_ref().is_some_and(|name| !case.name.contains(name.as_str())) {
            continue;
        }
        let reference = Reference::new(&image, &case);
        for &threads in &options.threads {
            println!("\n{} on {}x{}, {threads} thread(s)", case.name, options.size.0, options.size.1);
            let mut contenders = contenders::all(&image, &case, threads)?;
            if let Some(worker) = &mut worker {
                worker.kernel(&case.kernel)?;
                contenders.extend(worker.contenders(&case, threads));
            }
            all_right &= compare(&mut contenders, &image, &reference, options.rounds, worker.as_mut())?;
        }
    }
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Times the contenders and prints a table. Returns whether this crate's outputs are right.
fn compare(
    contenders: &mut [Contender<'_>],
    image: &Array2<f32>,
    reference: &Reference,
    rounds: usize,
    mut worker: Option<&mut Worker>,
) -> Result<bool, Box<dyn Error>> {
    let mut output = Array2::zeros(image.dim());
    let mut seconds = vec![Vec::new(); contenders.len()];
    let mut errors = vec![None; contenders.len()];
    for round in 0..rounds {
        for (index, contender) in contenders.iter_mut().enumerate() {
            if round > 0 && seconds[index].iter().sum::<f64>() > BUDGET {
                continue;
            }
            output.fill(f32::NAN);
            seconds[index].push(contender.run(&mut output, worker.as_deref_mut())?);
            if round == 0 && contender.compared() {
                errors[index] = Some(reference.error(&output, contender.interior_only()));
            }
        }
    }
    println!("{:32} {:>10} {:>10} {:>8} {:>6}  error", "", "median ms", "min ms", "ratio", "rounds");
    let mut all_right = true;
    let mut ours = None;
    for (contender, (seconds, error)) in contenders.iter().zip(seconds.iter_mut().zip(&errors)) {
        seconds.sort_by(f64::total_cmp);
        let (median, least) = (seconds[seconds.len() / 2], seconds[0]);
        let ours = *ours.get_or_insert(median);
        let limit = if contender.is_ours() { OUR_ERROR } else { MOST_ERROR };
        let verdict = match error {
            None => "another kernel, not compared".into(),
            Some(error) if *error <= limit => format!("{error:.1e}"),
            Some(error) => format!("{error:.1e} DIFFERS"),
        };
        all_right &= !(contender.is_ours() && verdict.contains("DIFFERS"));
        let (name, rounds) = (contender.name(), seconds.len());
        println!(
            "{name:32} {:10.3} {:10.3} {:8.2} {rounds:6}  {verdict}",
            median * 1e3,
            least * 1e3,
            median / ours
        );
    }
    Ok(all_right)
}
