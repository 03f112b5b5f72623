//! A prefix of S3 as a place of publication. Its files are the objects directly below it.

use super::upload::Before;
use super::{Ask, Bucket, Object, is_other};
use crate::Fault;
use crate::place::{Content, NewFile, Place, PlaceFile, Published};
use lcepatch_files::context::Context;
use lcepatch_format::patch::ReadAt;
use ureq::http::Method;

/// The objects directly below a prefix, as they were when they were listed.
#[derive(Debug)]
pub struct Prefix {
    bucket: Bucket,
    /// With a slash at its end, or empty.
    folder: String,
    name: String,
    objects: Vec<Object>,
    files: Vec<PlaceFile>,
}

impl Prefix {
    /// Lists the objects directly below `key`; there are none if nobody has published there.
    ///
    /// # Errors
    /// [`Fault`], also for a bucket that is not there.
    pub fn open(bucket: Bucket, key: &str, context: &Context) -> Result<Self, Fault> {
        let folder = if key.is_empty() || key.ends_with('/') { key.to_owned() } else { format!("{key}/") };
        let objects = bucket.list_folder(&folder, context)?;
        let file = |object: &Object| PlaceFile { path: inner(object, &folder), bytes: object.bytes, sha256: None };
        let files = objects.iter().map(file).collect();
        Ok(Self { name: bucket.name_of(&folder).trim_end_matches('/').to_owned(), bucket, folder, objects, files })
    }

    /// The object of a file.
    fn object(&self, path: &str) -> Result<&Object, Fault> {
        self.objects.iter().find(|object| inner(object, &self.folder) == path).ok_or_else(|| {
            let nearest = lcepatch_format::words::nearest(path, self.files.iter().map(|file| file.path.as_str()));
            Fault::NoSuchFile { place: self.name.clone(), path: path.to_owned(), nearest }
        })
    }
}

fn inner(object: &Object, folder: &str) -> String {
    object.key.get(folder.len()..).unwrap_or_default().to_owned()
}

impl Place for Prefix {
    fn name(&self) -> &str {
        &self.name
    }

    fn commit(&self) -> Option<&str> {
        None
    }

    fn files(&self) -> &[PlaceFile] {
        &self.files
    }

    fn open(&self, path: &str, context: &Context<'_>) -> Result<Box<dyn ReadAt>, Fault> {
        let object = self.object(path)?;
        let file = self.bucket.file(&object.key, context)?;
        let tag = file.tag().unwrap_or_default().to_owned();
        if file.bytes() != object.bytes || tag != object.tag {
            return Err(changed(self.bucket.name_of(&object.key), object, &tag));
        }
        Ok(Box::new(file))
    }

    fn read(&self, path: &str, limit: u64, context: &Context<'_>) -> Result<Vec<u8>, Fault> {
        let object = self.object(path)?;
        let address = self.bucket.name_of(&object.key);
        if object.bytes > limit {
            return Err(Fault::TooLarge { address, bytes: object.bytes, limit });
        }
        let request = self.bucket.request(&Method::GET, &Ask { key: &object.key, ..Ask::default() })?;
        let (answer, bytes) = self.bucket.http.send_and_read(&request, limit, context)?;
        if !answer.is_success() {
            return Err(self.bucket.refused(answer, &object.key));
        }
        if is_other(&answer, object) || bytes.len() as u64 != object.bytes {
            return Err(changed(address, object, answer.header("etag").unwrap_or_default()));
        }
        Ok(bytes)
    }

    /// Objects appear one by one. Each is written only if what is there is what was listed, on servers that compare it; others could lose
    /// what somebody else publishes in the same moment.
    fn publish(&self, files: &[NewFile], _: &str, context: &Context<'_>) -> Result<Published, Fault> {
        if let Some(file) = files.iter().find(|file| file.path.is_empty() || file.path.contains('/')) {
            let reason = "is not the name of a file directly in a place".to_owned();
            return Err(Fault::Name { name: file.path.clone(), reason });
        }
        if self.bucket.list_folder(&self.folder, context)? != self.objects {
            return Err(Fault::Moved { place: self.name.clone() });
        }
        for file in files {
            let key = format!("{}{}", self.folder, file.path);
            let there = self.objects.iter().find(|object| object.key == key);
            let before = there.map_or(Before::Nothing, |object| Before::Tag(object.tag.clone()));
            match &file.content {
                Content::Bytes(bytes) => self.bucket.put(&key, bytes, &before, context)?,
                Content::File(from) => self.bucket.put_file(&key, from, &before, context)?,
            }
        }
        Ok(Published { commit: None, url: None })
    }
}

fn changed(address: String, object: &Object, tag: &str) -> Fault {
    Fault::Changed { address, before: object.tag.clone(), after: tag.to_owned() }
}
