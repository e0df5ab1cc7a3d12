//! The loop of a training: it learns, resumes to the same bits, and reports what went wrong.

use kernels::Threads;
use nets::data::{Dataset, Frame, Normalisation, Parts};
use nets::fit::{Checkpoint, Event, Hardware, Recipe, Setting, Trainer};
use nets::optim::Rule;
use nets::{Graph, Init, InputStatistics, NetError, SeededWeights, Shape, WeightSet, zoo};
use std::path::Path;

/// 640 digits to train on and 200 others.
fn parts() -> Parts {
    let digits = Dataset::digits(false).unwrap();
    Parts { training: digits.part(0..640), validation: digits.part(8000..8200) }
}

fn recipe() -> Recipe {
    let mut recipe = Recipe::default();
    (recipe.epochs, recipe.batch, recipe.init, recipe.seed) = (3, 64, Init::Xavier, 4);
    recipe.augment = "crop=1,rotate=5,cut-out=3".parse().unwrap();
    recipe
}

const HARDWARE: fn() -> Hardware = || Hardware { max_threads: 1, figures: true, ..Hardware::default() };

fn setting<'a>(graph: &'a Graph, parts: &'a Parts) -> Setting<'a> {
    Setting { graph, parts, data: "some digits", hardware: HARDWARE() }
}

fn trainer(graph: &Graph, recipe: &Recipe) -> Result<Trainer, NetError> {
    let weights = SeededWeights::new(graph, recipe.init, recipe.seed)?;
    Trainer::new(setting(graph, &parts()), &weights, recipe)
}

/// Trains until the end, or until a number of events.
fn run(trainer: &mut Trainer, events: usize) -> Vec<Event> {
    let mut all = Vec::new();
    while all.len() < events
        && let Some(event) = trainer.advance(Threads::Seq).unwrap()
    {
        all.push(event);
    }
    all
}

fn bits(weights: &WeightSet) -> Vec<(String, Vec<u32>)> {
    let tensor = |(name, tensor): (&str, &nets::Tensor)| {
        (name.to_owned(), tensor.data().iter().map(|number| number.to_bits()).collect())
    };
    weights.iter().map(tensor).collect()
}

fn resumed(trainer: &Trainer, graph: &Graph, folder: &Path) -> Trainer {
    let path = folder.join("a.checkpoint");
    trainer.checkpoint().save(&path).unwrap();
    let checkpoint = Checkpoint::load(&path, graph).unwrap();
    Trainer::resume(setting(graph, &parts()), checkpoint).unwrap()
}

#[test]
fn lenet5_learns() {
    let graph = zoo::lenet5().unwrap();
    let mut trainer =
        trainer(&graph, &Recipe { epochs: 8, augment: "none".parse().unwrap(), ..recipe() }).unwrap();
    run(&mut trainer, usize::MAX);
    let [first, .., last] = trainer.history() else { panic!("eight epochs") };
    assert!(last.training_loss < 0.5 * first.training_loss, "{first:?} {last:?}");
    assert!(last.validation_accuracy > 0.85, "{last:?}");
    let [ratios, layers] = [last.ratios.len(), last.layers.len()];
    assert!(ratios == 5 && layers >= 4, "five weights and four tanh: {last:?}");
    assert!(last.ratios.iter().all(|&(_, ratio)| ratio > 0.0 && ratio < 0.1), "{last:?}");
}

#[test]
fn a_training_resumes_to_the_same_bits_wherever_it_ended() {
    let graph = zoo::lenet5().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (optimizer, form) in [
        ("momentum:0.9", "plain"),
        ("adamw:0.1", "plain"),
        ("look-ahead", "plain"),
        ("adam", "weight-norm"),
        ("momentum", "weight-standard"),
    ] {
        let mut recipe = recipe();
        recipe.method = optimizer.parse().unwrap();
        recipe.parametrization = form.parse().unwrap();
        recipe.average = (optimizer != "look-ahead" && form == "plain").then_some(0.9);
        recipe.schedule = "plateau:0.5,0".parse().unwrap();
        let mut whole = trainer(&graph, &recipe).unwrap();
        let events = run(&mut whole, usize::MAX);
        assert_eq!(events.len(), 3 * 11, "ten steps and a measurement in each epoch");
        // In the middle of an epoch, before its measurement, and behind it.
        for end in [4, 10, 11, 25] {
            let mut first = trainer(&graph, &recipe).unwrap();
            run(&mut first, end);
            let mut second = resumed(&first, &graph, folder.path());
            drop(first);
            run(&mut second, usize::MAX);
            assert_eq!(
                bits(&second.weights().unwrap()),
                bits(&whole.weights().unwrap()),
                "{optimizer} {end}"
            );
            let figures = |trainer: &Trainer| -> Vec<(u64, f64, f64)> {
                let figures = trainer.history().iter();
                figures.map(|epoch| (epoch.epoch, epoch.training_loss, epoch.validation_loss)).collect()
            };
            assert_eq!(figures(&second), figures(&whole));
        }
    }
}

#[test]
fn threads_do_not_change_the_bits() {
    let graph = zoo::lenet5().unwrap();
    let recipe = Recipe { epochs: 1, ..recipe() };
    let mut alone = trainer(&graph, &recipe).unwrap();
    run(&mut alone, usize::MAX);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let weights = SeededWeights::new(&graph, recipe.init, recipe.seed).unwrap();
    let hardware = Hardware { max_threads: 3, ..HARDWARE() };
    let parts = parts();
    let setting = Setting { hardware, ..setting(&graph, &parts) };
    let mut three = Trainer::new(setting, &weights, &recipe).unwrap();
    while three.advance(Threads::Pool(&pool)).unwrap().is_some() {}
    assert_eq!(bits(&alone.weights().unwrap()), bits(&three.weights().unwrap()));
}

#[test]
fn full_batches_fall_and_resume() {
    let graph = zoo::lenet5().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    recipe.method = "lbfgs:5".parse().unwrap();
    (recipe.rate, recipe.epochs, recipe.penalty.l2) = (1.0, 6, 1e-4);
    let error = trainer(&graph, &recipe).unwrap_err().to_string();
    assert!(error.contains("expected no augmentation"), "{error}");
    recipe.augment = "none".parse().unwrap();
    let mut whole = trainer(&graph, &recipe).unwrap();
    run(&mut whole, usize::MAX);
    assert_eq!((whole.steps_per_epoch(), whole.pictures_per_step()), (1, 640));
    let losses: Vec<f64> = whole.history().iter().map(|epoch| epoch.training_loss).collect();
    assert!(losses.len() == 6 && losses.windows(2).all(|pair| pair[1] <= pair[0]), "{losses:?}");
    assert!(losses[5] < 0.7 * losses[0], "{losses:?}");
    let mut first = trainer(&graph, &recipe).unwrap();
    run(&mut first, 6);
    let mut second = resumed(&first, &graph, folder.path());
    run(&mut second, usize::MAX);
    assert_eq!(bits(&second.weights().unwrap()), bits(&whole.weights().unwrap()));
}

#[test]
fn frozen_and_slowed_parameters() {
    let graph = zoo::lenet5().unwrap();
    let mut recipe = Recipe { epochs: 1, method: nets::fit::Method::Steps(Rule::Sgd), rate: 0.1, ..recipe() };
    recipe.freeze = vec!["c*".parse().unwrap()];
    recipe.scales = vec!["f6.*=0".parse().unwrap()];
    let before = WeightSet::seeded(&graph, recipe.init, recipe.seed).unwrap();
    let mut trainer = trainer(&graph, &recipe).unwrap();
    assert_eq!(
        trainer.trained().collect::<Vec<_>>(),
        ["f6.weight", "f6.bias", "output.weight", "output.bias"]
    );
    run(&mut trainer, usize::MAX);
    let after = trainer.weights().unwrap();
    for (name, tensor) in before.iter() {
        let same = tensor == after.get(name).unwrap();
        assert_eq!(same, !name.starts_with("output"), "{name}");
    }
}

#[test]
fn a_training_that_diverges_names_the_place() {
    let graph = zoo::lenet5().unwrap();
    let mut recipe = Recipe { rate: 3e38, method: nets::fit::Method::Steps(Rule::Sgd), ..recipe() };
    recipe.schedule = "constant".parse().unwrap();
    let mut trainer = trainer(&graph, &recipe).unwrap();
    let error = fault(&mut trainer);
    let NetError::NotFinite { place, .. } = &error else { panic!("{error}") };
    assert!(graph.nodes().iter().any(|node| place.starts_with(&node.name)), "{error}");
    assert!(error.to_string().contains("expected finite numbers, got"), "{error}");
}

/// The error of a training that ends with one.
fn fault(trainer: &mut Trainer) -> NetError {
    loop {
        match trainer.advance(Threads::Seq) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a training without an error"),
            Err(error) => break error,
        }
    }
}

#[test]
fn the_layer_where_numbers_leave_the_range_is_found_without_figures() {
    let graph = zoo::find("lenet5-relu").unwrap().graph().unwrap();
    let parts = parts();
    let setting = Setting { hardware: Hardware { figures: false, ..HARDWARE() }, ..setting(&graph, &parts) };
    let weights = SeededWeights::new(&graph, Init::He, 1).unwrap();
    let normal = WeightSet::from_source(&graph, &weights).unwrap();
    // Finite weights of one layer, whose sums are not.
    let tensors: Vec<_> = normal
        .iter()
        .map(|(name, tensor)| {
            let factor = if name == "c3.weight" { 1e38 } else { 1.0 };
            let data: Vec<f32> = tensor.data().iter().map(|number| factor * number).collect();
            (name, tensor.dims(), data)
        })
        .collect();
    let views: Vec<_> = tensors.iter().map(|(name, dims, data)| (*name, *dims, &data[..])).collect();
    let huge = WeightSet::from_safetensors(&graph, &nets::to_safetensors(&views), "test").unwrap();
    let mut trainer = Trainer::new(setting, &huge, &recipe()).unwrap();
    let error = fault(&mut trainer);
    let NetError::NotFinite { what: "an activation", place, step: 0 } = &error else { panic!("{error}") };
    assert!(place.starts_with("c3"), "{error}");
}

#[test]
fn a_validation_loss_that_is_no_number_ends_the_training() {
    let graph = zoo::find("lenet5-relu").unwrap().graph().unwrap();
    let digits = Dataset::digits(false).unwrap();
    // One step per epoch: its loss is finite, and the weights after it are too large.
    let parts = Parts { training: digits.part(0..64), validation: digits.part(64..100) };
    let mut recipe = Recipe { rate: 1e20, method: nets::fit::Method::Steps(Rule::Sgd), ..recipe() };
    recipe.schedule = "constant".parse().unwrap();
    let weights = SeededWeights::new(&graph, recipe.init, recipe.seed).unwrap();
    let mut trainer = Trainer::new(setting(&graph, &parts), &weights, &recipe).unwrap();
    assert!(matches!(trainer.advance(Threads::Seq), Ok(Some(Event::Step(_)))));
    let error = trainer.advance(Threads::Seq).unwrap_err();
    assert!(matches!(&error, NetError::NotFinite { step: 1, .. }), "{error}");
    assert!(trainer.history().is_empty());
}

#[test]
fn the_rate_of_an_epoch_is_the_one_it_had() {
    let graph = zoo::lenet5().unwrap();
    let mut recipe = Recipe { rate: 1e-12, ..recipe() };
    recipe.schedule = "plateau:0.5,0".parse().unwrap();
    let mut trainer = trainer(&graph, &recipe).unwrap();
    let mut steps = Vec::new();
    while let Some(event) = trainer.advance(Threads::Seq).unwrap() {
        match event {
            Event::Step(step) => steps.push(step.rate),
            Event::Epoch(epoch) => assert!(steps.drain(..).all(|rate| rate == epoch.rate), "{epoch:?}"),
        }
    }
    let rates: Vec<f64> = trainer.history().iter().map(|epoch| epoch.rate).collect();
    assert_eq!(rates, [1e-12, 1e-12, 5e-13], "the loss of the second epoch is no better");
}

#[test]
fn a_resumed_training_keeps_the_statistics_and_the_data() {
    let graph = zoo::lenet5().unwrap();
    let first = trainer(&graph, &recipe()).unwrap();
    // As many other pictures: their statistics would differ.
    let digits = Dataset::digits(false).unwrap();
    let others = Parts { training: digits.part(640..1280), validation: digits.part(8000..8200) };
    let resumed = Trainer::resume(setting(&graph, &others), first.checkpoint()).unwrap();
    assert_eq!(resumed.statistics(), first.statistics());
    let refused = |parts: Parts, checkpoint: Checkpoint| {
        Trainer::resume(setting(&graph, &parts), checkpoint).map(|_| ()).unwrap_err().to_string()
    };
    let more = Parts { training: digits.part(0..704), ..parts() };
    assert_eq!(
        refused(more, first.checkpoint()),
        "checkpoint: expected one of data with 704 pictures to train on and 200 to measure on, got 640 pictures to train on \
         and 200 to measure on"
    );
    let mut unknown = first.checkpoint();
    unknown.statistics = None;
    assert_eq!(
        refused(parts(), unknown),
        "checkpoint: expected the statistics of inputs normalised by `channel`, got none"
    );
    let mut beyond = first.checkpoint();
    (beyond.progress.batch, beyond.progress.step) = (11, 11);
    assert_eq!(
        refused(parts(), beyond),
        "checkpoint: expected a place in epochs of 10 steps, got step 11, which is step 11 of epoch 0"
    );
    let mut wrong_rate = first.checkpoint();
    wrong_rate.recipe.rate = f64::NAN;
    assert_eq!(refused(parts(), wrong_rate), "lr: expected a finite number above 0, got NaN");
}

#[test]
fn a_checkpoint_for_other_inputs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.checkpoint");
    let entry = zoo::find("resnet20-cifar").unwrap();
    trainer(&entry.graph().unwrap(), &recipe()).unwrap().checkpoint().save(&path).unwrap();
    // Its weights have the same extents.
    let larger = entry.graph_for(Shape::map(3, 48, 48)).unwrap();
    let error = Checkpoint::load(&path, &larger).unwrap_err().to_string();
    assert!(error.ends_with("expected a checkpoint for inputs of 3x48x48, got one for inputs of 3x32x32"));
}

#[test]
fn a_history_with_a_number_that_is_not_finite_is_explained() {
    let graph = zoo::lenet5().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.checkpoint");
    let mut trainer = trainer(&graph, &Recipe { epochs: 1, ..recipe() }).unwrap();
    run(&mut trainer, usize::MAX);
    trainer.checkpoint().save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // A long history does not reach the limit of headers.
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let place = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|part| part == text);
    assert_eq!(place(&bytes[..header], b"validation_loss"), None);
    let name = br#""validation_loss":"#;
    let start = place(&bytes, name).unwrap() + name.len();
    let len = bytes[start..].iter().position(|&byte| byte == b',').unwrap();
    bytes[start..start + len].fill(b' ');
    bytes[start..start + 4].copy_from_slice(b"null");
    std::fs::write(&path, &bytes).unwrap();
    let error = Checkpoint::load(&path, &graph).unwrap_err().to_string();
    assert!(error.contains("got a history with a number that is infinite or NaN"), "{error}");
}

#[test]
fn unusable_checkpoints_are_refused() {
    let graph = zoo::lenet5().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.checkpoint");
    trainer(&graph, &recipe()).unwrap().checkpoint().save(&path).unwrap();
    let message = |path: &Path, graph: &Graph| {
        let error = Checkpoint::load(path, graph).map(|_| ()).unwrap_err();
        error.to_string().replace(&folder.path().display().to_string(), "DIR")
    };
    let other = zoo::find("mlp-mnist").unwrap().graph().unwrap();
    let expected =
        "DIR/a.checkpoint: expected a checkpoint of network `mlp-mnist`, got one of network `lenet5`";
    assert_eq!(message(&path, &other), expected);
    let classes = nets::fit::with_classes(&graph, 7).unwrap();
    let expected = "DIR/a.checkpoint: tensor `weights/output.weight`: expected shape [7, 84], got [10, 84]";
    assert_eq!(message(&path, &classes), expected);
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let message = message(&path, &graph);
        assert!(message.contains("expected a checkpoint of `nets train`, got another file"), "{message}");
    }
    WeightSet::seeded(&graph, Init::He, 1).unwrap().save(&path).unwrap();
    assert!(message(&path, &graph).ends_with("got a file without `format`"));
    assert!(message(&folder.path().join("missing"), &graph).starts_with("cannot read DIR/missing"));
}

#[test]
fn unusable_requests_are_refused() {
    let graph = zoo::lenet5().unwrap();
    let refused =
        |graph: &Graph, recipe: &Recipe| trainer(graph, recipe).map(|_| ()).unwrap_err().to_string();
    let many = refused(&graph, &Recipe { batch: 641, ..recipe() });
    assert_eq!(many, "batch: expected 1 to 640, the pictures to train on, got 641");
    let ahead = Recipe { method: "look-ahead".parse().unwrap(), average: Some(0.5), ..recipe() };
    assert!(refused(&graph, &ahead).starts_with("average: expected an optimiser other than look-ahead"));
    let form = Recipe { parametrization: "weight-norm".parse().unwrap(), average: Some(0.5), ..recipe() };
    assert!(refused(&graph, &form).starts_with("average: expected plain weights"));
    let wide = zoo::find("resnet18").unwrap().graph().unwrap();
    assert!(refused(&wide, &recipe()).ends_with("expected 1000 classes, as many as outputs, got 10"));
    let frame = Frame { channels: 1, size: kernels::Size2::square(28) };
    let (weights, parts) = (WeightSet::seeded(&graph, Init::He, 1).unwrap(), parts());
    let other = Normalisation::none(frame);
    let other = Trainer::normalised(setting(&graph, &parts), &weights, &recipe(), other).unwrap_err();
    assert_eq!(
        other.to_string(),
        "normalisation for network `lenet5`: expected one of pictures of 1x32x32, got one of pictures of 1x28x28"
    );
}

#[test]
fn statistics_are_stored_with_the_weights() {
    let graph = zoo::lenet5().unwrap();
    for (kind, means) in [("channel", 1), ("image", 32 * 32)] {
        let recipe = Recipe { normalise: kind.parse().unwrap(), ..recipe() };
        let trainer = trainer(&graph, &recipe).unwrap();
        let bytes = trainer.weights().unwrap().to_safetensors_with(trainer.statistics());
        let read = InputStatistics::from_safetensors(&bytes, 1, 32 * 32, "memory").unwrap();
        assert_eq!(read.as_ref(), trainer.statistics());
        assert_eq!(read.unwrap().mean().len(), means);
        assert_eq!(
            WeightSet::from_safetensors(&graph, &bytes, "memory").unwrap(),
            trainer.weights().unwrap()
        );
        // For another network, they are an error and not ignored.
        let error = InputStatistics::from_safetensors(&bytes, 3, 32 * 32, "memory").unwrap_err();
        assert!(error.to_string().contains("input."), "{error}");
    }
    let plain = WeightSet::seeded(&graph, Init::He, 1).unwrap().to_safetensors();
    assert_eq!(InputStatistics::from_safetensors(&plain, 1, 1024, "memory").unwrap(), None);
}
