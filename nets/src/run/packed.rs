//! [`PackedWeights`]: the packed weights of a compiled network, to compile it again without packing.

use super::compiled::CompiledNet;
use super::step::Step;
use crate::error::NetError;
use crate::graph::{Graph, NodeId};
use crate::weights::WeightSource;
use kernels::{ConvPlan, Filter, PackedError};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};

const MAGIC: &[u8; 24] = b"convkernels network v1\n\0";
/// Bytes of a name and layers of a network at most.
const MOST: u64 = 1 << 16;
/// Elements at each end of a tensor that its fingerprint covers.
const SAMPLE: usize = 4096;

/// The packed weights of a network, layer by layer.
///
/// [`CompiledNet::with_packed`] compiles with them: for another batch, where it shares their memory, or in another
/// process, from the bytes that [`write`](Self::write) wrote. Packing is most of the time of compiling a network with many
/// weights, such as VGG-16.
#[derive(Debug)]
pub struct PackedWeights {
    network: String,
    fingerprint: u64,
    /// By the name of the first layer of the convolution.
    filters: BTreeMap<String, Filter<'static>>,
}

impl PackedWeights {
    fn of(net: &CompiledNet, graph: &Graph, weights: &dyn WeightSource) -> Result<Self, NetError> {
        let convolutions = net.steps.iter().flat_map(Step::convolutions);
        let filter = |(_, nodes, plan): (&str, &[NodeId], &ConvPlan)| {
            let first = graph.node(*nodes.first()?);
            Some((first.name.clone(), plan.filter()))
        };
        let filters = convolutions.filter_map(filter).collect();
        Ok(Self { network: graph.name().to_owned(), fingerprint: fingerprint(graph, weights)?, filters })
    }

    /// Bytes of all packed weights.
    pub fn bytes(&self) -> usize {
        self.filters.values().map(Filter::packed_bytes).sum()
    }

    /// The packed weights of the layer, or of the convolution that begins with it.
    pub(super) fn filter(&self, layer: &str) -> Option<&Filter<'static>> {
        self.filters.get(layer)
    }

    /// Checks that these are packed weights of `graph` with the numbers of `weights`.
    pub(super) fn check(&self, graph: &Graph, weights: &dyn WeightSource) -> Result<(), NetError> {
        if self.network != graph.name() || self.fingerprint != fingerprint(graph, weights)? {
            return Err(NetError::Packed {
                network: graph.name().to_owned(),
                cause: PackedError::OtherWeights,
            });
        }
        Ok(())
    }

    /// Writes all packed weights: see [`Filter::write_packed`].
    ///
    /// # Errors
    /// [`NetError::Packed`] with the error of the writer.
    pub fn write(&self, to: &mut impl Write) -> Result<(), NetError> {
        self.write_to(to).map_err(|cause| NetError::Packed { network: self.network.clone(), cause })
    }

    fn write_to(&self, to: &mut impl Write) -> Result<(), PackedError> {
        to.write_all(MAGIC)?;
        write_string(to, &self.network)?;
        to.write_all(&self.fingerprint.to_le_bytes())?;
        to.write_all(&(self.filters.len() as u64).to_le_bytes())?;
        self.filters.iter().try_for_each(|(name, filter)| {
            write_string(to, name)?;
            filter.write_packed(to)
        })
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`NetError::Packed`] if the bytes were written by another version, on another machine, or are damaged.
    pub fn read(from: &mut impl Read) -> Result<Self, NetError> {
        Self::read_from(from).map_err(|cause| NetError::Packed { network: "a network".to_owned(), cause })
    }

    fn read_from(from: &mut impl Read) -> Result<Self, PackedError> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(PackedError::NotPacked);
        }
        let (network, fingerprint, count) = (read_string(from)?, read_number(from)?, read_number(from)?);
        let mut filters = BTreeMap::new();
        for _ in 0..at_most(count)? {
            let name = read_string(from)?;
            filters.insert(name, Filter::from_packed(from)?);
        }
        Ok(Self { network, fingerprint, filters })
    }
}

impl CompiledNet {
    /// The packed weights of this network, which was compiled from `graph` and `weights`. They share the network's memory.
    ///
    /// # Errors
    /// The errors of `weights`, of which the ends of each tensor are read.
    pub fn packed_weights(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
    ) -> Result<PackedWeights, NetError> {
        PackedWeights::of(self, graph, weights)
    }
}

fn write_string(to: &mut impl Write, text: &str) -> Result<(), PackedError> {
    to.write_all(&(text.len() as u64).to_le_bytes())?;
    Ok(to.write_all(text.as_bytes())?)
}

fn read_number(from: &mut impl Read) -> Result<u64, PackedError> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn at_most(number: u64) -> Result<usize, PackedError> {
    let number =
        Some(number).filter(|&number| number <= MOST).ok_or(PackedError::Damaged { what: "header" })?;
    Ok(number as usize)
}

fn read_string(from: &mut impl Read) -> Result<String, PackedError> {
    let mut bytes = vec![0; at_most(read_number(from)?)?];
    from.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| PackedError::Damaged { what: "header" })
}

/// A hash of the names, extents and end pieces of all tensors. It tells networks and trained weights apart without reading
/// all of them.
fn fingerprint(graph: &Graph, weights: &dyn WeightSource) -> Result<u64, NetError> {
    let mut hash = DefaultHasher::new();
    for (name, param) in graph.params() {
        hash.write(name.as_bytes());
        param.dims.iter().for_each(|&extent| hash.write_usize(extent));
        let len: usize = param.dims.iter().product();
        let mut ends = vec![0.0f32; len.min(SAMPLE)];
        let mut write = |numbers: &[f32]| numbers.iter().for_each(|x| hash.write_u32(x.to_bits()));
        if weights.part(&name, &param, 0, &mut ends)? {
            write(&ends);
            weights.part(&name, &param, len - ends.len(), &mut ends)?;
            write(&ends);
        } else if let Some(tensor) = weights.tensor(&name, &param)? {
            let ends = tensor.len().min(SAMPLE);
            write(&tensor[..ends]);
            write(&tensor[tensor.len() - ends..]);
        }
    }
    Ok(hash.finish())
}
