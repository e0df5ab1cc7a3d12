//! Places in row-major tensors.

/// The distance of neighbours along each axis.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// All places of a tensor, in row-major order.
pub struct Walk {
    dims: Vec<usize>,
    next: usize,
}

impl Walk {
    pub fn new(dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), next: 0 }
    }
}

impl Iterator for Walk {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        if self.next >= self.dims.iter().product() {
            return None;
        }
        let mut rest = self.next;
        let mut place = vec![0; self.dims.len()];
        for (at, &dim) in place.iter_mut().zip(&self.dims).rev() {
            *at = rest % dim;
            rest /= dim;
        }
        self.next += 1;
        Some(place)
    }
}

/// The offset of a place of a larger tensor in one of extents `dims` that is broadcast to it.
pub fn offset_in(dims: &[usize], place: &[usize]) -> usize {
    let skipped = place.len() - dims.len();
    let along = dims.iter().zip(&place[skipped..]);
    along.fold(0, |offset, (&dim, &at)| offset * dim + if dim == 1 { 0 } else { at })
}

/// The extents that all of these are broadcast to; `None` if they cannot be.
pub fn broadcast(all: &[&[usize]]) -> Option<Vec<usize>> {
    let rank = all.iter().map(|dims| dims.len()).max()?;
    let mut result = vec![1; rank];
    for dims in all {
        for (to, &dim) in result[rank - dims.len()..].iter_mut().zip(*dims) {
            match (*to, dim) {
                (1, _) => *to = dim,
                (_, 1) => (),
                (a, b) if a == b => (),
                _ => return None,
            }
        }
    }
    Some(result)
}
