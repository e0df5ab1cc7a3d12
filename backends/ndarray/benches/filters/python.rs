//! A worker process in Python, which runs OpenCV and SciPy. The protocol is described in `worker.py`.

use crate::cases::Case;
use crate::contenders::{Contender, Kind, REPEATED};
use ndarray::Array2;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Worker {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    functions: Vec<String>,
}

impl Worker {
    /// Starts the worker and sends the image.
    pub fn start(python: &str, image: &Array2<f32>) -> Result<Self, Box<dyn Error>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/filters/worker.py");
        let mut process =
            Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(process.stdout.take().ok_or("the worker has no output")?);
        let commands = process.stdin.take();
        let mut worker = Self { process, commands, answers, functions: Vec::new() };
        let answer = worker.line()?;
        println!("Python: {answer}");
        worker.functions = answer.split(' ').filter(|word| !word.contains('=')).map(str::to_owned).collect();
        worker.send_array("image", image)?;
        Ok(worker)
    }

    /// Sends the kernel of the next runs.
    pub fn kernel(&mut self, kernel: &Array2<f32>) -> Result<(), Box<dyn Error>> {
        self.send_array("kernel", kernel)
    }

    /// The functions of the worker that can compute the case.
    pub fn contenders(&self, case: &Case, threads: usize) -> Vec<Contender<'static>> {
        let fits = |name: &&String| match name.as_str() {
            "sepFilter2D" => case.factor.is_some(),
            "oaconvolve" => threads == 1,
            _ => true,
        };
        let contender = |name: &String| {
            let kind = if name == "oaconvolve" { Kind::ZeroBorder } else { Kind::Peer };
            let command = format!("run {name} {threads} {REPEATED}");
            let run = move |output: &mut Array2<f32>, worker: Option<&mut Worker>| {
                worker.ok_or("no worker")?.run(&command, output)
            };
            let module = if name == "oaconvolve" { "SciPy" } else { "OpenCV" };
            Contender::new(&format!("{module} {name}"), kind, Box::new(run))
        };
        self.functions.iter().filter(fits).map(contender).collect()
    }

    fn run(&mut self, command: &str, output: &mut Array2<f32>) -> Result<f64, Box<dyn Error>> {
        self.send(format!("{command}\n").as_bytes())?;
        let seconds = self.line()?.parse()?;
        let mut bytes = vec![0; output.len() * size_of::<f32>()];
        self.answers.read_exact(&mut bytes)?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        output.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        Ok(seconds)
    }

    fn send_array(&mut self, name: &str, array: &Array2<f32>) -> Result<(), Box<dyn Error>> {
        let (h, w) = array.dim();
        let bytes: Vec<u8> = array.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.send(format!("{name} {h} {w}\n").as_bytes())?;
        self.send(&bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        let commands = self.commands.as_mut().ok_or("the worker has ended")?;
        commands.write_all(bytes)?;
        Ok(commands.flush()?)
    }

    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the worker ended: see its message above".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    /// The worker ends at the end of its input.
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.process.wait();
    }
}
