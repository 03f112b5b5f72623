//! `#[test]` of the integration tests: it registers the function with `tests/harness.rs`, which can ignore a test while
//! it runs. The attribute of the standard library cannot.

use proc_macro::{TokenStream, TokenTree};

/// Registers a function without arguments as a test.
///
/// # Panics
/// If it does not stand before a function.
#[proc_macro_attribute]
pub fn test(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens = function.clone().into_iter();
    let after_fn = tokens.by_ref().find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"));
    let name = after_fn.and_then(|_| tokens.next()).expect("#[test] stands before a function");
    let case = format!(
        "::inventory::submit! {{
            crate::harness::Case {{ module: ::core::module_path!(), name: \"{name}\", run: {name} }}
        }}"
    );
    let case: TokenStream = case.parse().expect("these are tokens");
    [function, case].into_iter().collect()
}
