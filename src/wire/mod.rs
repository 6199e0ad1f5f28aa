pub(crate) mod count;
pub(crate) mod frame;
pub(crate) mod payload;
