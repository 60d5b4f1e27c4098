//! The PostgreSQL protocol: listener, connections, and values in PostgreSQL's formats.

pub mod decode;
pub mod encode;
pub mod json;
pub mod types;
pub mod zone;
