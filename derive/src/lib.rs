//! The derive macro `RemoteMessage` of `actix-transport`, which re-exports it and documents it.
//!
//! Owns the reading of `#[remote(…)]` and what it says about wrong use. Leaves the trait to `actix-transport`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Data, DeriveInput, Error, LitInt, Path, Result, Token, meta::ParseNestedMeta, parse_macro_input,
};

/// Implements `actix_transport::RemoteMessage`; its documentation says how.
#[proc_macro_derive(RemoteMessage, attributes(remote))]
pub fn remote_message(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    implement(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn implement(input: &DeriveInput) -> Result<TokenStream> {
    if let Data::Union(_) = &input.data {
        let text = "a union cannot be a remote message: nobody knows which of its fields is valid";
        return Err(Error::new_spanned(&input.ident, text));
    }
    if !input.generics.params.is_empty() {
        let text = "a remote message cannot have parameters: each type needs an id of its own; \
                    implement `RemoteMessage` by hand for each type that is sent";
        return Err(Error::new_spanned(&input.generics, text));
    }
    let Attributes {
        id,
        version,
        max_bytes,
        codec,
    } = Attributes::of(input)?;
    let name = &input.ident;
    let codec = codec.map_or_else(|| quote!(::actix_transport::Postcard), |path| quote!(#path));
    let version = version.map(|version| quote!(const VERSION: u16 = #version;));
    let max_bytes = max_bytes.map(|bytes| quote!(const MAX_BYTES: usize = #bytes;));
    Ok(quote! {
        #[automatically_derived]
        impl ::actix_transport::RemoteMessage for #name {
            const ID: u32 = #id;
            #version
            #max_bytes
            type Codec = #codec;
        }
    })
}

/// What `#[remote(…)]` says.
struct Attributes {
    id: u32,
    version: Option<u16>,
    max_bytes: Option<usize>,
    codec: Option<Path>,
}

impl Attributes {
    fn of(input: &DeriveInput) -> Result<Self> {
        let (mut id, mut version, mut max_bytes, mut codec) = (None, None, None, None);
        for attribute in &input.attrs {
            if !attribute.path().is_ident("remote") {
                continue;
            }
            attribute.parse_nested_meta(|meta| {
                let Some(key) = meta.path.get_ident().map(ToString::to_string) else {
                    return Err(unknown(&meta));
                };
                match &key[..] {
                    "id" => once(&meta, &mut id, number),
                    "version" => once(&meta, &mut version, number),
                    "max_bytes" => once(&meta, &mut max_bytes, number),
                    "codec" => once(&meta, &mut codec, |meta| meta.value()?.parse()),
                    _ => Err(unknown(&meta)),
                }
            })?;
        }
        let text = "a remote message needs an id: `#[remote(id = 7)]`. Nodes tell messages apart by it, so it \
                    must never change, and no two messages of a group may have the same";
        Ok(Attributes {
            id: id.ok_or_else(|| Error::new_spanned(&input.ident, text))?,
            version,
            max_bytes,
            codec,
        })
    }
}

fn unknown(meta: &ParseNestedMeta<'_>) -> Error {
    meta.error("`remote` takes `id`, `version`, `max_bytes` and `codec`")
}

/// Reads a value that may be given once only.
fn once<T>(
    meta: &ParseNestedMeta<'_>,
    value: &mut Option<T>,
    read: impl FnOnce(&ParseNestedMeta<'_>) -> Result<T>,
) -> Result<()> {
    if value.is_some() {
        let key = meta.path.get_ident().map(ToString::to_string);
        return Err(meta.error(format!("`{}` is given twice", key.unwrap_or_default())));
    }
    *value = Some(read(meta)?);
    Ok(())
}

fn number<T>(meta: &ParseNestedMeta<'_>) -> Result<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    if !meta.input.peek(Token![=]) {
        return Err(meta.error("needs a number: `= 7`"));
    }
    meta.value()?.parse::<LitInt>()?.base10_parse()
}
