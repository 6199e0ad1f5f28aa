pub(crate) mod frame;
pub(crate) mod payload;
