{
  "targets": [
    {
      "target_name": "stillpoint",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["scripts/build-native.mjs"],
          "outputs": ["build/native/Release/stillpoint.node"],
          "action": ["node", "scripts/build-native.mjs"]
        }
      ]
    }
  ]
}
