//! [`ParameterMut`]: a parameter tensor of a network that trains, with its gradient.

use crate::layer::Role;

/// A parameter tensor of a network that trains, with the gradient of the last step.
#[derive(Debug)]
pub struct ParameterMut<'a> {
    /// The full name: `layer.weight`, `layer.bias` and so on.
    pub name: &'a str,
    /// The role in the layer.
    pub role: Role,
    /// Extents, outermost first.
    pub dims: &'a [usize],
    /// The elements, last extent fastest.
    pub value: &'a mut [f32],
    /// The derivative of the loss by each element. An optimiser can use it as scratch.
    pub gradient: &'a mut [f32],
}
