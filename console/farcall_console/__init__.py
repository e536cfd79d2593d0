"""The web application and the HTTP API. Reads the store; decides nothing about names."""
