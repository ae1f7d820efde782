//! The decoder in plain Burn operations: for devices other than the CPU, and as the reference with
//! which the CPU operation is tested. Written for readers, in the order of the forward pass.

mod pass;
mod attention;
mod short_convolution;
mod delta_net;
mod layer;

use burn::tensor::{Device, Int, Tensor, TensorData};

use self::pass::Pass;
use super::hidden::Hidden;
use super::tables::embeddings;
use crate::data::Batch;
use crate::lora::Draw;
use crate::model::{
    Decoder, DecoderConfig, DecoderLayer, FrozenMatrix, LayerVector, Linear, LinearPath,
    PerLayerInputs, Projection,
};

/// The decoder's weights as tensors on a device.
#[derive(Debug)]
pub struct Plain {
    config: DecoderConfig,
    embed_tokens: FrozenMatrix,
    lm_head: Option<FrozenMatrix>,
    outside: PlainLayer,
    per_layer_inputs: Option<PerLayerInputs>,
    layers: Vec<PlainLayer>,
    norm: Tensor<1>,
    device: Device,
}

/// The weights of a layer.
#[derive(Debug)]
struct PlainLayer {
    /// Weight `[in, out]` and bias `[out]`, in the order of [`Projection::ALL`].
    linears: Vec<Option<(Tensor<2>, Option<Tensor<1>>)>>,
    /// In the order of [`LayerVector::ALL`]; flat.
    vectors: Vec<Option<Tensor<1>>>,
}

impl PlainLayer {
    fn new(layer: &DecoderLayer, device: &Device) -> Self {
        let mut linears: Vec<_> = Projection::ALL.iter().map(|_| None).collect();
        for (projection, linear) in layer.linears() {
            linears[projection as usize] = Some(tensors(linear, device));
        }
        let vectors = LayerVector::ALL.map(|name| {
            let values = layer.vector(name);
            (!values.is_empty()).then(|| vector(values.to_vec(), device))
        });
        Self {
            linears,
            vectors: vectors.into(),
        }
    }

    /// A weight that is not a linear layer, if the layer has it.
    fn vector(&self, vector: LayerVector) -> Option<&Tensor<1>> {
        self.vectors[vector as usize].as_ref()
    }
}

fn vector(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

fn tensors(linear: &Linear, device: &Device) -> (Tensor<2>, Option<Tensor<1>>) {
    let shape = [linear.weight.rows(), linear.weight.columns()];
    let rows: Vec<u32> = (0..shape[0] as u32).collect();
    let weight = TensorData::new(linear.weight.gather(&rows), shape);
    let weight = Tensor::<2>::from_data(weight, device).transpose();
    let bias = linear.bias.as_ref();
    (weight, bias.map(|bias| vector(bias.clone(), device)))
}

impl Plain {
    /// Moves a decoder's weights to a device, layer by layer.
    pub fn new(decoder: Decoder, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let layers = decoder.layers.into_iter();
        Self {
            config: decoder.config,
            embed_tokens: decoder.embed_tokens,
            lm_head: decoder.lm_head,
            outside: PlainLayer::new(&decoder.outside, &device),
            per_layer_inputs: decoder.per_layer_inputs,
            layers: layers
                .map(|layer| PlainLayer::new(&layer, &device))
                .collect(),
            norm: vector(decoder.norm, &device),
            device,
        }
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The lengths of the rows of a linear layer, `[out]`; empty if there is none.
    pub fn row_lengths(&self, path: LinearPath) -> Vec<f32> {
        let layer = path
            .layer
            .map_or(&self.outside, |layer| &self.layers[layer]);
        let Some((weight, _)) = &layer.linears[path.projection as usize] else {
            return Vec::new();
        };
        let squares = weight.clone().mul(weight.clone()).sum_dim(0);
        squares.sqrt().into_data().iter::<f32>().collect()
    }

    /// The embedding table `[V, H]`.
    pub fn embed_tokens(&self) -> &FrozenMatrix {
        &self.embed_tokens
    }

    /// The output table `[V, H]`.
    pub fn output(&self) -> &FrozenMatrix {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// The hidden states after the last norm at the requested tokens, and the penalty if the
    /// adapter's draw has one.
    pub fn hidden(&self, batch: &Batch, draw: &Draw) -> Hidden {
        let changed = embeddings(&self.embed_tokens, &self.config, batch, draw, &self.device);
        let mut x = changed.unwrap_or_else(|| self.embedded(batch));
        let mut pass = Pass::new(self, batch, draw);
        pass.inputs = self.layer_inputs(&pass, &x);
        for index in 0..self.layers.len() {
            x = pass.layer(index, x);
        }
        let asked = batch.asked.iter().map(|&token| token as i64);
        let asked = TensorData::new(asked.collect::<Vec<_>>(), [batch.asked.len()]);
        let asked = Tensor::<1, Int>::from_data(asked, &self.device);
        Hidden {
            states: self.norm(x.select(0, asked), &self.norm),
            output: None,
            penalty: pass.into_penalty(),
        }
    }

    /// The embeddings of the base, multiplied as the model does, `[N, H]`.
    fn embedded(&self, batch: &Batch) -> Tensor<2> {
        let shape = [batch.len(), self.config.hidden_size];
        let embedded = TensorData::new(self.embed_tokens.gather(&batch.tokens), shape);
        Tensor::from_data(embedded, &self.device) * self.config.ends.embedding_multiplier
    }

    /// The inputs that the layers have of their own, those of all layers side by side,
    /// `[N, layers · width]`: (norm(W e / √H) + √width · row) / √2.
    fn layer_inputs(&self, pass: &Pass<'_>, embedded: &Tensor<2>) -> Option<Tensor<2>> {
        let tables = self.per_layer_inputs.as_ref()?;
        let (norm, table) = (
            &tables.per_layer_projection_norm,
            &tables.embed_tokens_per_layer,
        );
        let (tokens, width) = (pass.batch.len(), norm.len());
        let root = (self.config.hidden_size as f64).sqrt();
        let projected = pass.project(None, Projection::PerLayerModel, embedded.clone()) / root;
        let layers = self.config.layers.len();
        let normed = self.norm(
            projected.reshape([tokens, layers, width]),
            &vector(norm.clone(), &self.device),
        );
        // The table may have fewer rows than the vocabulary; other tokens have none.
        let mut rows = vec![0.0; tokens * table.columns()];
        for (row, &token) in rows
            .chunks_exact_mut(table.columns())
            .zip(&pass.batch.tokens)
        {
            if (token as usize) < table.rows() {
                table.row(token as usize, row);
            }
        }
        let shape = [tokens, layers * width];
        let rows = Tensor::<2>::from_data(TensorData::new(rows, shape), &self.device);
        let sum = normed.reshape(shape) + rows * (width as f64).sqrt();
        Some(sum * std::f64::consts::FRAC_1_SQRT_2)
    }

    /// x · w / √(mean(x²) + ε) along the last dimension.
    fn norm<const D: usize>(&self, x: Tensor<D>, weight: &Tensor<1>) -> Tensor<D> {
        self.normed(x) * weight.clone().unsqueeze::<D>()
    }

    /// x / √(mean(x²) + ε) along the last dimension.
    fn normed<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let inverse = (x.clone().powi_scalar(2).mean_dim(D - 1) + self.config.rms_norm_eps)
            .sqrt()
            .recip();
        x * inverse
    }
}
