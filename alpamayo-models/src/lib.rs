//! alpamayo-models
