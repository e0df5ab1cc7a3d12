//! Activations by name.

use kernels::Activation;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The name of an activation and its numbers, as Python passes them.
pub(crate) type Named = (String, Vec<f32>);

/// The activation of this name. `prelu` takes its slopes elsewhere.
///
/// # Errors
/// `ValueError` for an unknown name or the wrong number of numbers.
pub(crate) fn parse(named: Option<Named>) -> PyResult<Activation> {
    let Some((name, numbers)) = named else { return Ok(Activation::None) };
    let activation = match (name.as_str(), numbers.as_slice()) {
        ("none", []) => Activation::None,
        ("relu", []) => Activation::Relu,
        ("relu6", []) => Activation::RELU6,
        ("sigmoid", []) => Activation::Sigmoid,
        ("tanh", []) => Activation::Tanh,
        ("silu", []) => Activation::Silu,
        ("hardswish", []) => Activation::HardSwish,
        ("prelu", []) => Activation::PRelu,
        ("leaky_relu", &[alpha]) => Activation::LeakyRelu { alpha },
        ("elu", &[alpha]) => Activation::Elu { alpha },
        ("clip", &[lo, hi]) => Activation::Clip { lo, hi },
        _ => {
            return Err(PyValueError::new_err(format!(
                "activation: expected None, 'relu', 'relu6', 'sigmoid', 'tanh', 'silu', 'hardswish', \
                 ('leaky_relu', alpha), ('elu', alpha), ('clip', lo, hi) or ('prelu', slopes), \
                 got '{name}' with {} numbers",
                numbers.len()
            )));
        }
    };
    Ok(activation)
}
