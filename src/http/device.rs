//! stub
use crate::{images::Images, ledger::Ledger};
use tokio_util::sync::CancellationToken;
#[derive(Clone)] pub struct Device {}
impl Device { pub fn new(l: Ledger, i: Images, s: std::net::SocketAddr) -> Self { Self{} } pub async fn run(self, s: CancellationToken) {} }
pub fn router(d: Device) -> axum::Router { axum::Router::new() }
