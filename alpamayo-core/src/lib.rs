//! alpamayo-core
