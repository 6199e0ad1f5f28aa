//! What the derive says about wrong use. Each file in `ui` has the words beside it.

#[test]
fn wrong_use_is_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
