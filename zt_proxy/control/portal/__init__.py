"""The portal: where people sign in, step up and sign out; the only place that talks to identity providers."""
