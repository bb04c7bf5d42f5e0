"""What a front end may know about the daemon: names, requests, replies, frames, client."""
