//! The text of a token: shown once, never logged, never stored.

use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::crypto::ring;

use crate::core::image::Digest;
use crate::core::refusal::Refusal;

pub struct Secret(String);

impl Secret {
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// 32 bytes of chance.
    pub fn fresh() -> Result<Self, Refusal> {
        let mut bytes = [0; 32];
        let filled = ring::default_provider().secure_random.fill(&mut bytes);
        filled.map_err(|_| Refusal::new(500, "internal", "the system gives no random numbers"))?;
        Ok(Self(format!("bl_{}", Digest::new(bytes))))
    }

    pub fn sha256(&self) -> Digest {
        Digest::new(Sha256::digest(self.0.as_bytes()).into())
    }

    /// For the one moment in which it is shown.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
