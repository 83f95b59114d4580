//! alpamayo-backends
