"""WSO2 API Manager as the source of APIs, subscriptions, keys and limits."""
