//! The arithmetic of products with frozen matrices.

/// In which numbers the products of activations with frozen matrices are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compute {
    /// In f32.
    #[default]
    F32,
    /// In 8-bit integers, weights and activations in blocks of 32 with a scale each: faster, with a
    /// relative error of about 1 % in each product.
    Int8,
}
